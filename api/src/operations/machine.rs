//! What this machine is called, and at which addresses others reach it.

use std::net::{IpAddr, UdpSocket};

use super::certificates::check_host;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its host name, and the name under which it answers on a network without a name server
    /// (multicast DNS).
    pub names: Vec<String>,
    /// Of all interfaces, without the loopback and those that hold on one cable only. The one by
    /// which it goes out comes first, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
}

impl Machine {
    pub fn look() -> Self {
        let found = if_addrs::get_if_addrs().unwrap_or_default();
        let addresses = found.iter().filter(|interface| !interface.is_link_local());
        let addresses = addresses.map(if_addrs::Interface::ip).filter(|ip| !ip.is_loopback());
        Self {
            names: names(&gethostname::gethostname().to_string_lossy()),
            addresses: ordered(addresses.collect(), outgoing()),
        }
    }

    /// Whether this is an address at which one reaches this very machine.
    pub fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }
}

fn names(host_name: &str) -> Vec<String> {
    let name = host_name.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || check_host(&name).is_err() {
        return Vec::new();
    }
    let local = (!name.contains('.')).then(|| format!("{name}.local"));
    std::iter::once(name).chain(local).collect()
}

fn ordered(mut addresses: Vec<IpAddr>, outgoing: Option<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_key(|address| (Some(*address) != outgoing, address.is_ipv6(), *address));
    addresses.dedup();
    addresses
}

/// The address from which this machine reaches others. Nothing is sent: connecting a datagram
/// socket only looks up the route, here to an address that is reserved for documents.
fn outgoing() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

/// With brackets around an IPv6 address.
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_name_is_also_known_by_multicast_and_a_full_one_is_not() {
        assert_eq!(names("Box"), ["box", "box.local"]);
        assert_eq!(names("box.example.net"), ["box.example.net"]);
        assert_eq!(names("localhost"), Vec::<String>::new());
        assert_eq!(names("no name"), Vec::<String>::new());
    }

    #[test]
    fn the_address_by_which_it_goes_out_comes_first() {
        let addresses = ["fd00::1", "172.17.0.1", "192.168.1.20", "172.17.0.1"];
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let ordered = ordered(addresses, Some("192.168.1.20".parse().unwrap()));
        let shown: Vec<String> = ordered.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.168.1.20", "172.17.0.1", "fd00::1"]);
    }
}
