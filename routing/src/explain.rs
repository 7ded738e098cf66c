//! Skeleton.
/// Skeleton.
pub fn text(table: &crate::table::Table, arrival: &crate::table::Arrival) -> String {
    let _ = (table, arrival);
    String::new()
}
