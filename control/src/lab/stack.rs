//! A VM within this process: a TCP/IP stack (smoltcp) on a memory port.

use std::collections::VecDeque;
use std::net::IpAddr;

use hairpin_dataplane::port::memory::{Endpoint, EndpointReceiver, EndpointSender};
use hairpin_dataplane::wire::offload::Offload;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::{icmp, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr,
};

use super::introduction;
use super::pattern::Pattern;
use super::plan::{Family, VmPlan};

/// Bytes of an Ethernet frame with a 1500-byte payload: smoltcp's MTU.
const FRAME_BYTES: usize = 1514;
/// Bytes of each buffer of a TCP connection.
const TCP_BYTES: usize = 256 * 1024;
/// The identifier of the lab's echo requests.
const ECHO_IDENT: u16 = 0x4850;
/// Echo messages that may wait in a socket.
const ECHOES: usize = 8;

/// A VM's network card: the endpoint of a memory port.
struct Card {
    sender: EndpointSender,
    receiver: EndpointReceiver,
    /// Frames that the stack receives although nobody sent them.
    told: VecDeque<Vec<u8>>,
    /// Frames are received here.
    frame: Vec<u8>,
    /// Frames are sent from here.
    outgoing: Vec<u8>,
}

/// A frame for the stack.
struct Incoming<'c>(&'c [u8]);

/// A frame from the stack.
struct Outgoing<'c> {
    sender: &'c mut EndpointSender,
    frame: &'c mut Vec<u8>,
}

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        self.frame.clear();
        self.frame.resize(length, 0);
        let result = fill(self.frame);
        // A full ring loses the frame, as a real card would; TCP sends it again.
        let _ = self.sender.queue(self.frame, Offload::NONE);
        result
    }
}

impl phy::Device for Card {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        match self.told.pop_front() {
            Some(frame) => self.frame = frame,
            None => {
                self.receiver.receive(&mut self.frame)?;
            }
        }
        let outgoing = Outgoing { sender: &mut self.sender, frame: &mut self.outgoing };
        Some((Incoming(&self.frame), outgoing))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { sender: &mut self.sender, frame: &mut self.outgoing })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities
    }
}

/// A VM: its card, its interface, its sockets.
pub(super) struct Stack {
    plan: VmPlan,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    echo: SocketHandle,
    tcp: SocketHandle,
    /// What it sends next over TCP,
    sent: Pattern,
    /// and what it must receive next.
    due: Pattern,
    /// How far its clock is ahead.
    ahead: Duration,
}

impl Stack {
    /// A VM with its addresses, up.
    pub fn new(plan: &VmPlan, endpoint: Endpoint) -> Stack {
        let (sender, receiver) = endpoint.split();
        let (told, frame, outgoing) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut card = Card { sender, receiver, told, frame, outgoing };
        let mut config = Config::new(EthernetAddress(plan.mac().octets()).into());
        config.random_seed = u64::from(plan.number);
        let mut interface = Interface::new(config, &mut card, Instant::now());
        interface.update_ip_addrs(|addresses| {
            for (address, prefix) in [(plan.ipv4().into(), 24), (plan.ipv6().into(), 64)] {
                addresses
                    .push(IpCidr::new(address, prefix))
                    .expect("smoltcp has room for two addresses");
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let echo = sockets.add(echo_socket());
        let tcp = sockets.add(tcp_socket());
        let (sent, due, ahead) = (Pattern::default(), Pattern::default(), Duration::ZERO);
        Stack { plan: *plan, card, interface, sockets, echo, tcp, sent, due, ahead }
    }

    /// Takes and sends what is due.
    pub fn poll(&mut self) {
        let now = Instant::now() + self.ahead;
        self.interface.poll(now, &mut self.card, &mut self.sockets);
        self.card.sender.flush();
    }

    /// Puts its clock forward.
    pub fn skip(&mut self, time: Duration) {
        self.ahead += time;
    }

    /// Tells it another VM's MAC address.
    pub fn introduce(&mut self, peer: &VmPlan, family: Family) {
        self.card.told.push_back(introduction::frame(&self.plan, peer, family));
        self.poll();
    }

    /// Sends an echo request.
    pub fn send_echo(&mut self, to: IpAddr, sequence: u16) {
        let checksums = ChecksumCapabilities::default();
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.echo);
        let data = [0x48; 48];
        match to {
            IpAddr::V4(to) => {
                let request =
                    Icmpv4Repr::EchoRequest { ident: ECHO_IDENT, seq_no: sequence, data: &data };
                if let Ok(buffer) = socket.send(request.buffer_len(), to.into()) {
                    request.emit(&mut Icmpv4Packet::new_unchecked(buffer), &checksums);
                }
            }
            IpAddr::V6(to) => {
                let request =
                    Icmpv6Repr::EchoRequest { ident: ECHO_IDENT, seq_no: sequence, data: &data };
                let from = self.interface.get_source_address_ipv6(&to);
                if let Ok(buffer) = socket.send(request.buffer_len(), to.into()) {
                    let mut packet = Icmpv6Packet::new_unchecked(buffer);
                    request.emit(&from, &to, &mut packet, &checksums);
                }
            }
        }
        self.poll();
    }

    /// The sequence number of an echo reply that came.
    pub fn take_echo(&mut self) -> Option<u16> {
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.echo);
        let (payload, from) = socket.recv().ok()?;
        // Type, code, checksum, identifier, sequence number: alike in both versions.
        let is_reply = match from {
            IpAddress::Ipv4(_) => payload.first() == Some(&0),
            IpAddress::Ipv6(_) => payload.first() == Some(&129),
        };
        let sequence = payload.get(6..8)?.first_chunk().copied().map(u16::from_be_bytes)?;
        is_reply.then_some(sequence)
    }

    /// Forgets the echo request that was not answered: it may still wait for an address,
    /// and others behind it.
    pub fn give_up_echo(&mut self) {
        self.sockets.remove(self.echo);
        self.echo = self.sockets.add(echo_socket());
    }

    /// Waits for a TCP connection.
    pub fn listen(&mut self, port: u16) {
        let socket = self.fresh_tcp();
        socket.listen(port).expect("a fresh socket listens");
    }

    /// Opens a TCP connection.
    pub fn connect(&mut self, to: IpAddr, port: u16, local_port: u16) {
        self.fresh_tcp();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        socket
            .connect(self.interface.context(), (IpAddress::from(to), port), local_port)
            .expect("a fresh socket connects");
    }

    fn fresh_tcp(&mut self) -> &mut tcp::Socket<'static> {
        (self.sent, self.due) = (Pattern::default(), Pattern::default());
        self.sockets.remove(self.tcp);
        self.tcp = self.sockets.add(tcp_socket());
        self.sockets.get_mut(self.tcp)
    }

    /// Sends as much of the pattern as the connection takes.
    pub fn send_tcp(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        let sent = &mut self.sent;
        // It takes nothing as long as it is not established.
        let _ = socket.send(|buffer| {
            sent.fill(buffer);
            (buffer.len(), ())
        });
    }

    /// Takes what the connection brought; says how many bytes, and how many of them are not
    /// the pattern's.
    pub fn receive_tcp(&mut self) -> (u64, u64) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        let due = &mut self.due;
        let took =
            socket.recv(|buffer| (buffer.len(), (buffer.len() as u64, due.differences(buffer))));
        took.unwrap_or_default()
    }

    /// Ends the connection at once.
    pub fn abort_tcp(&mut self) {
        self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp).abort();
        self.poll();
    }
}

fn echo_socket() -> icmp::Socket<'static> {
    let buffer = || {
        let metadata = vec![icmp::PacketMetadata::EMPTY; ECHOES];
        icmp::PacketBuffer::new(metadata, vec![0; ECHOES * 128])
    };
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(ECHO_IDENT)).expect("a fresh socket binds");
    socket
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BYTES]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket
}
