//! The intended times of an open loop, drawn without looking at what completes.
