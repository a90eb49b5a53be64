//! What tries to break the operator: crashes, cut connections, dead and swapped brokers, frozen leaders.

mod crash;
mod kafka;
