//! Taking an address to listen on. A port in use is the commonest failure at start, so it gets its own words.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use crate::CliError;

/// Listens on `host:port`; port 0 takes a free one.
///
/// # Errors
/// An address that does not parse (exit 2); a port in use or not allowed (exit 1).
pub async fn bind(address: &str) -> Result<TcpListener, CliError> {
    check_shape(address)?;
    TcpListener::bind(address).await.map_err(|error| {
        let failed = CliError::failed(format!("could not listen on {address}: {}", words(&error)));
        match error.kind() {
            ErrorKind::AddrInUse => failed.with_hint(
                "another coordinator may be running; stop it, or choose another port with --listen HOST:PORT",
            ),
            ErrorKind::PermissionDenied => {
                failed.with_hint("choose a port above 1023 with --listen HOST:PORT")
            }
            ErrorKind::AddrNotAvailable => {
                failed.with_hint("this machine does not have that address; 0.0.0.0 stands for all it has")
            }
            _ => failed,
        }
    })
}

/// Writes the bound address for whoever started this process: aside first, then renamed, so no reader sees half of it.
///
/// # Errors
/// When the file cannot be written.
pub fn write_address_file(path: &Path, address: SocketAddr) -> Result<(), CliError> {
    let aside = path.with_extension("part");
    let write = || {
        let mut file = std::fs::File::create(&aside)?;
        writeln!(file, "{address}")?;
        std::fs::rename(&aside, path)
    };
    write().map_err(|error| CliError::failed(format!("could not write {}: {error}", path.display())))
}

fn check_shape(address: &str) -> Result<(), CliError> {
    let fits = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if fits {
        Ok(())
    } else {
        Err(
            CliError::usage(format!("`{address}` is not an address to listen on"))
                .with_hint("write HOST:PORT, for example 127.0.0.1:7700"),
        )
    }
}

fn words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "the port is in use".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_a_hint() {
        let held = bind("127.0.0.1:0").await.unwrap();
        let address = held.local_addr().unwrap().to_string();
        let error = bind(&address).await.unwrap_err();
        assert_eq!(
            error.message,
            format!("could not listen on {address}: the port is in use")
        );
        assert!(error.hint.unwrap().contains("--listen"));
        assert_eq!(error.exit, crate::Exit::Failed);
    }

    #[tokio::test]
    async fn an_address_without_a_port_is_bad_usage() {
        for address in ["127.0.0.1", ":7700", "host:port", "127.0.0.1:70000"] {
            assert_eq!(
                bind(address).await.unwrap_err().exit,
                crate::Exit::Usage,
                "{address}"
            );
        }
    }
}
