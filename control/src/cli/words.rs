//! What the API's enums are called, in tables and in JSON alike.

use hairpin_proto::v1;

/// A mode; nothing on a bridge.
#[must_use]
pub fn mode(mode: v1::Mode) -> Option<&'static str> {
    match mode {
        v1::Mode::Unspecified => None,
        v1::Mode::Veb => Some("veb"),
        v1::Mode::Vepa => Some("vepa"),
        v1::Mode::Private => Some("private"),
        v1::Mode::Direct => Some("direct"),
    }
}

/// What somebody wants it to be.
#[must_use]
pub fn admin(admin: v1::Admin) -> &'static str {
    match admin {
        v1::Admin::Down => "down",
        v1::Admin::Up | v1::Admin::Unspecified => "up",
    }
}

/// What it is.
#[must_use]
pub fn state(state: v1::State) -> &'static str {
    match state {
        v1::State::Unspecified => "unknown",
        v1::State::Up => "up",
        v1::State::Down => "down",
        v1::State::Waiting => "waiting",
        v1::State::Quarantined => "quarantined",
    }
}

/// What it is, marked if there are warnings; [`legend`] says what the mark means.
#[must_use]
pub fn marked_state(state: v1::State, warnings: &[String]) -> String {
    let mark = if warnings.is_empty() { "" } else { " !" };
    self::state(state).to_owned() + mark
}

/// A line below a list of ports or links some of which are marked; empty if none is.
#[must_use]
pub fn legend<'w>(kind: &str, mut warnings: impl Iterator<Item = &'w [String]>) -> String {
    match warnings.any(|warnings| !warnings.is_empty()) {
        true => format!("! there are warnings: `hairpin {kind} show NAME` says which\n"),
        false => String::new(),
    }
}

/// Which end of a link we are.
#[must_use]
pub fn role(role: v1::LinkRole) -> &'static str {
    match role {
        v1::LinkRole::Unspecified => "unknown",
        v1::LinkRole::Station => "station",
        v1::LinkRole::Bridge => "bridge",
    }
}

/// Whether a worker breathes.
#[must_use]
pub fn health(health: v1::WorkerHealth) -> &'static str {
    match health {
        v1::WorkerHealth::Unspecified => "unknown",
        v1::WorkerHealth::Breathing => "breathing",
        v1::WorkerHealth::Stalled => "stalled",
        v1::WorkerHealth::Ended => "ended",
    }
}

/// Whether a worker sleeps.
#[must_use]
pub fn poll(poll: v1::Poll) -> &'static str {
    match poll {
        v1::Poll::Unspecified => "unknown",
        v1::Poll::Adaptive => "adaptive",
        v1::Poll::Busy => "busy",
    }
}

/// How a receive queue is.
#[must_use]
pub fn queue_state(state: v1::QueueState) -> &'static str {
    match state {
        v1::QueueState::Unspecified => "unknown",
        v1::QueueState::Hot => "hot",
        v1::QueueState::Armed => "armed",
        v1::QueueState::Parked => "parked",
        v1::QueueState::Dormant => "dormant",
        v1::QueueState::Moving => "moving",
    }
}

/// A device in a word or two.
#[must_use]
pub fn device(device: Option<&v1::Device>) -> String {
    match device.and_then(|device| device.kind.as_ref()) {
        None => "-".to_owned(),
        Some(v1::device::Kind::Tap(tap)) => format!("tap {}", tap.interface),
        Some(v1::device::Kind::Packet(packet)) => format!("packet {}", packet.interface),
        Some(v1::device::Kind::Xdp(xdp)) => match xdp_mode(xdp.granted()) {
            Some(granted) => format!("xdp {} ({granted})", xdp.interface),
            None => format!("xdp {}", xdp.interface),
        },
        Some(v1::device::Kind::VhostUser(it)) => format!("vhost-user {}", it.socket),
        Some(v1::device::Kind::Memory(_)) => "memory".to_owned(),
    }
}

/// Which end of a socket we are.
#[must_use]
pub fn socket_role(role: v1::SocketRole) -> &'static str {
    match role {
        v1::SocketRole::Unspecified => "unknown",
        v1::SocketRole::Client => "client",
        v1::SocketRole::Server => "server",
    }
}

/// A device, and why it is not better.
#[must_use]
pub fn device_in_full(device: Option<&v1::Device>) -> String {
    let reason = match device.and_then(|device| device.kind.as_ref()) {
        Some(v1::device::Kind::VhostUser(it)) => {
            let pairs = if it.queues == 1 { "pair" } else { "pairs" };
            format!(" ({}, {} queue {pairs})", socket_role(it.role()), it.queues)
        }
        Some(v1::device::Kind::Xdp(xdp)) if !xdp.reason.is_empty() => format!("; {}", xdp.reason),
        _ => String::new(),
    };
    self::device(device) + &reason
}

/// A path of AF_XDP's, as the configuration has it; none as long as there is none.
#[must_use]
pub fn xdp_mode(mode: v1::XdpMode) -> Option<&'static str> {
    match mode {
        v1::XdpMode::Unspecified => None,
        v1::XdpMode::Auto => Some("auto"),
        v1::XdpMode::ZeroCopy => Some("zero-copy"),
        v1::XdpMode::Copy => Some("copy"),
        v1::XdpMode::Generic => Some("generic"),
    }
}

/// A port's VLANs, as `port set` takes them.
#[must_use]
pub fn vlan(vlan: Option<&v1::Vlan>) -> String {
    match vlan.and_then(|vlan| vlan.policy.as_ref()) {
        None | Some(v1::vlan::Policy::Transparent(_)) => "transparent".to_owned(),
        Some(v1::vlan::Policy::Access(id)) => format!("access:{id}"),
        Some(v1::vlan::Policy::Trunk(trunk)) => {
            let native = trunk.native.map(|id| format!(",native:{id}")).unwrap_or_default();
            format!("trunk:{}{native}", ranges(&trunk.vids))
        }
    }
}

/// `10,20-29`, of ascending numbers.
fn ranges(vids: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &vid in vids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == vid => *last = vid,
            _ => runs.push((vid, vid)),
        }
    }
    let run = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

/// What a port is on: the key by which it is configured.
#[must_use]
pub fn home_kind(port: &v1::Port) -> &'static str {
    match port.home {
        Some(v1::port::Home::Channel(_)) | None => "channel",
        Some(v1::port::Home::Bridge(_)) => "bridge",
        Some(v1::port::Home::Mirror(_)) => "mirror",
    }
}

/// The name of what a port is on; empty if it is on nothing.
#[must_use]
pub fn home_name(port: &v1::Port) -> &str {
    use v1::port::Home;
    match &port.home {
        Some(Home::Channel(name) | Home::Bridge(name) | Home::Mirror(name)) => name,
        None => "",
    }
}

/// What a port is on, in a table in which most are on channels.
#[must_use]
pub fn home(port: &v1::Port) -> String {
    match &port.home {
        Some(v1::port::Home::Mirror(name)) => format!("mirror {name}"),
        _ => or_dash(home_name(port)),
    }
}

/// Which frames a mirror copies.
#[must_use]
pub fn mirrored(frames: v1::MirroredFrames) -> &'static str {
    match frames {
        v1::MirroredFrames::Unspecified | v1::MirroredFrames::Both => "both",
        v1::MirroredFrames::Received => "received",
        v1::MirroredFrames::Sent => "sent",
    }
}

/// A text that may be empty.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// Sentences one behind the other.
#[must_use]
pub fn sentences(sentences: &[String]) -> String {
    or_dash(&sentences.join("; "))
}

/// Names side by side.
#[must_use]
pub fn joined(names: &[String]) -> String {
    or_dash(&names.join(" "))
}

/// Where a port is to be.
#[must_use]
pub fn wanted_home(port: &v1::PortConfig) -> String {
    use v1::port_config::Home;
    match &port.home {
        Some(Home::Channel(name) | Home::Bridge(name)) => name.clone(),
        Some(Home::Mirror(name)) => format!("mirror {name}"),
        None => "-".to_owned(),
    }
}

/// A device that is wanted, in a word or two.
#[must_use]
pub fn wanted_device(device: Option<&v1::DeviceConfig>) -> String {
    match device.and_then(|device| device.kind.as_ref()) {
        None => "-".to_owned(),
        Some(v1::device_config::Kind::Tap(tap)) => format!("tap {}", tap.interface),
        Some(v1::device_config::Kind::Packet(it)) => format!("packet {}", it.interface),
        Some(v1::device_config::Kind::Xdp(xdp)) => format!("xdp {}", xdp.interface),
        Some(v1::device_config::Kind::VhostUser(it)) => format!("vhost-user {}", it.socket),
        Some(v1::device_config::Kind::Memory(_)) => "memory".to_owned(),
    }
}

/// A kind of object.
#[must_use]
pub fn object_kind(kind: v1::ObjectKind) -> &'static str {
    match kind {
        v1::ObjectKind::Unspecified => "object",
        v1::ObjectKind::Switch => "switch",
        v1::ObjectKind::Link => "link",
        v1::ObjectKind::Channel => "channel",
        v1::ObjectKind::Bridge => "bridge",
        v1::ObjectKind::Port => "port",
        v1::ObjectKind::PortTemplate => "port-template",
        v1::ObjectKind::Mirror => "mirror",
    }
}

/// What becomes of an object.
#[must_use]
pub fn change_kind(what: v1::ChangeKind) -> &'static str {
    match what {
        v1::ChangeKind::Unspecified => "unknown",
        v1::ChangeKind::Added => "added",
        v1::ChangeKind::Removed => "removed",
        v1::ChangeKind::Changed => "changed",
        v1::ChangeKind::Disruptive => "disruptive",
    }
}

/// A kind of event.
#[must_use]
pub fn event_kind(kind: v1::EventKind) -> &'static str {
    match kind {
        v1::EventKind::Unspecified => "unknown",
        v1::EventKind::Applied => "applied",
        v1::EventKind::Up => "up",
        v1::EventKind::Down => "down",
        v1::EventKind::Waiting => "waiting",
        v1::EventKind::Quarantined => "quarantined",
        v1::EventKind::AddressMoved => "address_moved",
        v1::EventKind::LimitHit => "limit_hit",
        v1::EventKind::WorkerOverloaded => "worker_overloaded",
        v1::EventKind::WorkerRecovered => "worker_recovered",
        v1::EventKind::WorkerStalled => "worker_stalled",
    }
}

/// A text in lines of at most 80 columns, each behind an indent; what has no blank stays whole.
#[must_use]
pub fn folded(text: &str, indent: &str) -> String {
    const WIDTH: usize = 80;
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        let width = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && width > WIDTH {
            lines += &format!("{indent}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &format!("{indent}{line}\n")
}

/// A moment, in milliseconds since 1970-01-01 UTC, as `2026-11-28 00:46:52`.
#[must_use]
pub fn instant(ms: u64) -> String {
    let (days, second) = (ms / 1000 / 86_400, ms / 1000 % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The date of a day since 1970-01-01 in the Gregorian calendar, counted in years that
/// begin in March, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    // 0000-03-01.
    let days = days + 719_468;
    let (era, of_era) = (days / ERA, days % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_marks_those_that_have_warnings_and_says_so_below() {
        let port = |name: &str, warnings: &[&str]| v1::Port {
            name: name.to_owned(),
            state: v1::State::Up.into(),
            warnings: warnings.iter().map(|&it| it.to_owned()).collect(),
            ..v1::Port::default()
        };
        let legend = "! there are warnings: `hairpin port show NAME` says which";
        let all = [port("vm1", &[]), port("vm2", &["one", "two"])];
        let text = crate::cli::port::ports(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("vm1") && !lines[1].contains('!'), "{text}");
        assert!(lines[2].starts_with("vm2  up !"), "{text}");
        assert_eq!(lines[3..], [legend], "{text}");
        let text = crate::cli::port::ports(&all[..1]);
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn vlans_read_as_they_are_written() {
        let trunk = v1::Trunk { vids: vec![10, 20, 21, 22, 30], native: Some(10) };
        let vlan_of = |policy| vlan(Some(&v1::Vlan { policy: Some(policy) }));
        assert_eq!(vlan_of(v1::vlan::Policy::Trunk(trunk)), "trunk:10,20-22,30,native:10");
        assert_eq!(vlan_of(v1::vlan::Policy::Access(7)), "access:7");
        assert_eq!(vlan(None), "transparent");
    }

    #[test]
    fn long_texts_are_folded() {
        let text = folded(&"word ".repeat(40), "    ");
        assert!(text.lines().count() == 3 && text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn moments_have_dates() {
        assert_eq!(instant(0), "1970-01-01 00:00:00");
        assert_eq!(instant(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(instant(1_795_826_812_345), "2026-11-28 00:46:52");
        assert_eq!(instant(4_107_542_399_000), "2100-02-28 23:59:59");
        assert_eq!(instant(4_107_542_400_000), "2100-03-01 00:00:00");
    }
}
