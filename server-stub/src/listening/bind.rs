//! Finding a port.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

use crate::configuration::Port;

/// How many ports after the default are tried.
const TRIES: u16 = 100;

/// No port could be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "cannot listen on {address} for {purpose}: another program uses port {}. Stop it, or give another port \
         with {flag} (0 for any free one)",
        address.port()
    )]
    Taken {
        purpose: &'static str,
        flag: &'static str,
        address: SocketAddr,
    },
    #[error("cannot listen on {address} for {purpose} (change it with --listen or {flag})")]
    Refused {
        purpose: &'static str,
        flag: &'static str,
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Listens on the port, or on the next free one when the port is only a default.
pub fn bind(
    listen: IpAddr,
    port: Port,
    purpose: &'static str,
    flag: &'static str,
) -> Result<TcpListener, BindError> {
    let (first, tries) = match port {
        Port::Exactly(port) => (port, 1),
        Port::From(port) => (port, TRIES),
    };
    let last = first.saturating_add(tries - 1);
    for port in first..=last {
        let address = SocketAddr::new(listen, port);
        let refused = |source| BindError::Refused {
            purpose,
            flag,
            address,
            source,
        };
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).map_err(refused)?;
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port < last => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::Taken {
                    purpose,
                    flag,
                    address,
                });
            }
            Err(error) => return Err(refused(error)),
        }
    }
    Err(BindError::Taken {
        purpose,
        flag,
        address: SocketAddr::new(listen, last),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_default_that_is_taken_gives_way_and_a_given_port_does_not() {
        let holder = bind(LOOPBACK, Port::Exactly(0), "HTTP", "--http-port").unwrap();
        let taken = holder.local_addr().unwrap().port();

        let next = bind(LOOPBACK, Port::From(taken), "HTTP", "--http-port").unwrap();
        assert!(next.local_addr().unwrap().port() > taken);

        let error = bind(LOOPBACK, Port::Exactly(taken), "HTTP", "--http-port").unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&taken.to_string()) && message.contains("--http-port"),
            "{message}"
        );
    }
}
