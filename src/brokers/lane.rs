//! Who goes first when a broker has more to do than it can.

/// Who waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Someone changed an object and waits for the effect.
    User,
    /// A periodic look at everything.
    Resync,
}
