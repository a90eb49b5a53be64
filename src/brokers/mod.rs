//! The only code that talks to brokers.
//!
//! Each broker family has a folder with a client whose methods take and return plain data, and whose errors
//! end with the broker's own words. Data flows `controllers → here → broker` for changes and
//! `broker → here → controllers, lag collector` for what was observed; nothing here decides anything.
//! What the families share lies beside them: [`lane`], [`settings`], [`slot`], and TLS by rustls.

pub mod kafka;
pub mod lane;
pub mod rabbitmq;
pub mod settings;
pub mod slot;
mod tls;

pub use tls::install_crypto_provider;
