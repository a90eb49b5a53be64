//! The only code that talks to brokers.
//!
//! Each broker family has a folder with a client whose methods take and return plain data, and whose errors
//! end with the broker's own words. Data flows `controllers → here → broker` for changes and
//! `broker → here → controllers, lag collector` for what was observed; nothing here decides anything.

pub mod kafka;
