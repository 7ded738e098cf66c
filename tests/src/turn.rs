//! Who may run at the same time. Tests that measure time, or the memory of the whole host, take a quiet turn and run alone;
//! all others take a busy turn and share the machine.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// A turn next to others. A test that failed in its turn does not fail the next one.
pub fn busy() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// A turn alone.
pub fn quiet() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Checks all rows of a table at the same time, each in a thread of its own: for rows that mostly wait. Panics if one of them does.
pub fn together<T: Send>(rows: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let check = &check;
        let threads: Vec<_> = rows.into_iter().map(|row| scope.spawn(move || check(row))).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}
