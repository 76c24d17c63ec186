//! What the agent tells the server about its machine.

use std::{
    fs, io,
    net::{IpAddr, UdpSocket},
};

use nix::{
    ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::utsname::uname, unistd::gethostname,
};
use url::Url;

/// The host's name; `localhost` when it has none.
pub fn host_name() -> String {
    gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The address this machine is reached at: the local end of the route to the server, else the
/// first IPv4 address that is not a loopback one, else `127.0.0.1`. GoCD opens a connection for
/// this; asking the kernel for the route needs none and works while the server is down. Resolves
/// the server's name, which may block.
pub fn ip_address(server: &Url) -> String {
    route_to(server)
        .ok()
        .flatten()
        .or_else(first_public_address)
        .unwrap_or_else(|| "127.0.0.1".to_owned())
}

/// The system's name for people, as GoCD shows it: `Debian GNU/Linux 12 (bookworm)`.
pub fn operating_system() -> String {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(name) = fs::read_to_string(path)
            .ok()
            .as_deref()
            .and_then(pretty_name)
        {
            return name;
        }
    }
    uname().map_or_else(
        |_| "Linux".to_owned(),
        |facts| {
            format!(
                "{} {}",
                facts.sysname().to_string_lossy(),
                facts.release().to_string_lossy()
            )
        },
    )
}

fn route_to(server: &Url) -> io::Result<Option<String>> {
    for address in server.socket_addrs(|| None)? {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        // Connecting a datagram socket sends nothing: it only picks the route.
        let socket = UdpSocket::bind(any)?;
        if socket.connect(address).is_ok() {
            let local = socket.local_addr()?.ip();
            if !local.is_unspecified() {
                return Ok(Some(local.to_canonical().to_string()));
            }
        }
    }
    Ok(None)
}

fn first_public_address() -> Option<String> {
    getifaddrs()
        .ok()?
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip())))
        .find(|address| !address.is_loopback())
        .map(|address| address.to_string())
}

/// `PRETTY_NAME` of an os-release file, without its quotes and escapes.
fn pretty_name(text: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?
        .trim();
    let quoted = ['"', '\''].iter().find_map(|quote| {
        value
            .strip_prefix(*quote)
            .and_then(|rest| rest.strip_suffix(*quote))
    });
    let name = quoted.unwrap_or(value).replace('\\', "");
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_name_is_read_as_a_shell_would() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(
            pretty_name(text).as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(pretty_name("PRETTY_NAME=Void").as_deref(), Some("Void"));
        assert_eq!(pretty_name("PRETTY_NAME=\"\""), None);
        assert_eq!(pretty_name("NAME=x"), None);
    }

    #[test]
    fn a_loopback_server_sees_a_loopback_address() {
        let server = Url::parse("http://127.0.0.1:8153/go").unwrap();
        assert_eq!(ip_address(&server), "127.0.0.1");
    }

    #[test]
    fn a_server_out_of_reach_is_no_obstacle() {
        let server = Url::parse("http://no.such.host.invalid:8153/go").unwrap();
        assert!(ip_address(&server).parse::<IpAddr>().is_ok());
        assert!(!host_name().is_empty());
        assert!(!operating_system().is_empty());
    }
}
