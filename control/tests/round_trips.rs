//! What is wanted, written down and read again: as TOML and as messages of the API.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use hairpin::api::{configs, wanted};
use hairpin::config::vhost_user::{Account, SocketAccess, SocketRole, VhostUserConfig};
use hairpin::config::{
    self, ApiOthers, At, BridgeConfig, ChannelConfig, Config, DeviceConfig, FdbConfig, LinkConfig,
    LinkRole, MemberConfig, MetricsAddress, MirrorConfig, NamedBy, Poll, PortConfig, SwitchConfig,
    TemplateConfig, VlanConfig, read, write,
};
use hairpin_dataplane::port::{HostsOwn, memory, xdp};
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::{Admin, Mode, ReflectiveRelay};
use hairpin_dataplane::wire::{Mac, SVid, VlanId};
use hairpin_proto::v1;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
}

fn interface() -> impl Strategy<Value = String> {
    // What a netdev may be called beside what a name may: quotes and backslashes, too.
    "[a-z\"\\\\'#=\\[\\]{}~][a-z0-9\"\\\\.@]{0,13}"
}

fn admin() -> impl Strategy<Value = Admin> {
    select(&[Admin::Up, Admin::Down][..])
}

fn hosts_own() -> impl Strategy<Value = HostsOwn> {
    select(&[HostsOwn::Refuse, HostsOwn::TakeOver][..])
}

fn account() -> impl Strategy<Value = Account> {
    prop_oneof![
        (0..u32::MAX).prop_map(Account::Number),
        "[a-z\"\\\\][a-z0-9\"-]{0,30}".prop_map(Account::Name),
    ]
}

fn role() -> impl Strategy<Value = SocketRole> {
    let access = (0..=0o777_u32, option::of(account()), option::of(account()));
    let server = access.prop_map(|(mode, owner, group)| SocketAccess { mode, owner, group });
    prop_oneof![Just(SocketRole::Client), server.prop_map(SocketRole::Server)]
}

fn device() -> impl Strategy<Value = DeviceConfig> {
    let mode = select(
        &[
            xdp::Mode::Auto,
            xdp::Mode::Only(xdp::DataPath::ZeroCopy),
            xdp::Mode::Only(xdp::DataPath::Copy),
            xdp::Mode::Only(xdp::DataPath::Generic),
        ][..],
    );
    let vhost_user = ("/[ -~&&[^/]]{1,100}", role(), 1..=16_u16);
    prop_oneof![
        interface().prop_map(|interface| DeviceConfig::Tap { interface }),
        (interface(), hosts_own())
            .prop_map(|(interface, hosts_own)| DeviceConfig::Packet { interface, hosts_own }),
        (interface(), mode, hosts_own()).prop_map(|(interface, mode, hosts_own)| {
            DeviceConfig::Xdp { interface, mode, hosts_own }
        }),
        vhost_user.prop_map(|(socket, role, queues)| {
            DeviceConfig::VhostUser(VhostUserConfig { socket: socket.into(), role, queues })
        }),
    ]
}

fn vlan_id() -> impl Strategy<Value = VlanId> {
    (1..=4094_u16).prop_map(|id| VlanId::new(id).unwrap())
}

fn vlan() -> impl Strategy<Value = VlanConfig> {
    prop_oneof![
        Just(VlanConfig::Transparent),
        vlan_id().prop_map(VlanConfig::Access),
        (vec(vlan_id(), 1..8), option::of(vlan_id())).prop_map(|(mut members, native)| {
            members.sort_unstable();
            members.dedup();
            VlanConfig::Trunk { members, native }
        }),
    ]
}

fn mac() -> impl Strategy<Value = Mac> {
    (1..=u32::MAX).prop_map(|number| {
        let [a, b, c, d] = number.to_be_bytes();
        Mac::new([0x52, 0x54, a, b, c, d])
    })
}

fn at<T>(value: Option<T>) -> Option<At<T>> {
    value.map(At::from)
}

fn switch() -> impl Strategy<Value = SwitchConfig> {
    let workers = vec(0..1024_usize, 0..4).prop_map(|mut cpus| {
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    });
    let fdb = (64..=1_usize << 24, 1000..=1_000_000_000_u64)
        .prop_map(|(capacity, ms)| FdbConfig { capacity, ageing: Duration::from_millis(ms) });
    let poll = select(&[Poll::Adaptive, Poll::Busy][..]);
    let paths = ("/[ -~&&[^/]][ -~]{0,100}", "/[ -~]{0,200}");
    let others = select(&[ApiOthers::Read, ApiOthers::Nothing][..]);
    let metrics = prop_oneof![
        Just("127.0.0.1:9750"),
        Just("[fe80::1]:80"),
        Just("unix:/run/a b/\"metrics\".sock"),
    ];
    let metrics = option::of(metrics.prop_map(|text| MetricsAddress::read(text).unwrap()));
    (name(), workers, poll, paths, (others, metrics), fdb).prop_map(
        |(name, workers, poll, (api, state_dir), (api_others, metrics), fdb)| {
            let (api, state_dir) = (PathBuf::from(api), PathBuf::from(state_dir));
            SwitchConfig { name, workers, poll, api, api_others, metrics, state_dir, fdb }
        },
    )
}

fn link() -> impl Strategy<Value = LinkConfig> {
    let role = select(&[LinkRole::Station, LinkRole::Bridge][..]);
    (name(), role, option::of(device()), option::of(68..=65_521_u32), admin()).prop_map(
        |(name, role, device, mtu, admin)| LinkConfig {
            name: name.into(),
            role,
            device: at(device),
            mtu: at(mtu),
            admin,
        },
    )
}

fn channel() -> impl Strategy<Value = ChannelConfig> {
    (name(), name(), 2..=4094_u16)
        .prop_map(|(name, link, svid)| ChannelConfig::new(&name, &link, SVid::new(svid).unwrap()))
}

fn port() -> impl Strategy<Value = PortConfig> {
    let mode = select(&[Mode::Veb, Mode::Vepa, Mode::Private, Mode::Direct][..]);
    let home = prop_oneof![
        (name(), mode).prop_map(|(channel, mode)| ([Some(channel), None, None], Some(mode))),
        name().prop_map(|bridge| ([None, Some(bridge), None], None)),
        name().prop_map(|mirror| ([None, None, Some(mirror)], None)),
    ];
    let rest = (vec(mac(), 0..4), vlan(), 1..=1_u32 << 20, admin());
    (name(), home, device(), rest).prop_map(
        |(name, (homes, mode), device, (macs, vlan, learn_limit, admin))| {
            let [channel, bridge, mirror] = homes.map(at);
            PortConfig {
                name: name.into(),
                channel,
                bridge,
                mirror,
                mode: at(mode),
                device: device.into(),
                macs: macs.into_iter().map(At::from).collect(),
                vlan,
                learn_limit,
                admin,
            }
        },
    )
}

fn mirror() -> impl Strategy<Value = MirrorConfig> {
    let frames = select(&[Mirrored::Both, Mirrored::Received, Mirrored::Sent][..]);
    let from = prop_oneof![name(), Just("vif*".to_owned()), Just("*?.x".to_owned())];
    (name(), vec(from.prop_map(At::from), 0..4), frames)
        .prop_map(|(name, from, frames)| MirrorConfig { name: name.into(), from, frames })
}

fn bridge() -> impl Strategy<Value = BridgeConfig> {
    let relay = prop_oneof![
        Just(ReflectiveRelay::Off),
        (1..=1_000_000_000_u32).prop_map(|group_rate| ReflectiveRelay::On { group_rate }),
    ];
    let named_by = select(&[NamedBy::Link, NamedBy::Channel][..]);
    let member = (name(), named_by, relay).prop_map(|(channel, named_by, reflective_relay)| {
        MemberConfig { channel: channel.into(), named_by, reflective_relay }
    });
    (name(), vec(member, 0..4))
        .prop_map(|(name, members)| BridgeConfig { name: name.into(), members })
}

fn template() -> impl Strategy<Value = TemplateConfig> {
    let meant = |device: &DeviceConfig| config::template::objection(device).is_none();
    let device = device().prop_filter("a template's device", meant);
    (port(), device).prop_map(|(port, device)| {
        let macs = Vec::new();
        // It is on a bridge instead.
        let bridge = port.bridge.or(port.mirror);
        let (device, mirror) = (device.into(), None);
        TemplateConfig { port: PortConfig { device, macs, bridge, mirror, ..port } }
    })
}

/// Everything that can be said, whether it holds together or not.
fn any_config() -> impl Strategy<Value = Config> {
    let objects = (vec(link(), 0..3), vec(channel(), 0..3), vec(port(), 0..4), vec(bridge(), 0..3));
    (switch(), objects, vec(template(), 0..3), vec(mirror(), 0..3)).prop_map(
        |(switch, (links, channels, ports, bridges), templates, mirrors)| Config {
            switch,
            links,
            channels,
            ports,
            bridges,
            templates,
            mirrors,
        },
    )
}

proptest! {
    #[test]
    fn a_configuration_is_what_it_was_after_it_was_written(config in any_config()) {
        let text = write::to_toml(&config);
        let (again, findings) = read::read(&text);
        let errors: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
        prop_assert!(errors.is_empty(), "{}\n{text}", errors.join("\n"));
        prop_assert_eq!(again, config);
    }

    #[test]
    fn a_configuration_is_what_it_was_after_it_was_a_message(config in any_config()) {
        let message = configs::config(&config);
        let again = wanted::config(message, &Config::default());
        prop_assert_eq!(again.map_err(|errors| errors.to_string()), Ok(config));
    }
}

#[test]
fn what_is_left_out_of_a_message_is_as_in_a_file_without_it() {
    let message = v1::Config {
        links: vec![v1::LinkConfig {
            name: "up0".to_owned(),
            role: v1::LinkRole::Station as i32,
            ..v1::LinkConfig::default()
        }],
        ports: vec![v1::PortConfig {
            name: "vm1".to_owned(),
            home: Some(v1::port_config::Home::Channel("up0".to_owned())),
            mode: v1::Mode::Veb as i32,
            device: Some(v1::DeviceConfig {
                kind: Some(v1::device_config::Kind::Tap(v1::TapConfig {
                    interface: "tap1".to_owned(),
                })),
            }),
            ..v1::PortConfig::default()
        }],
        switch: Some(v1::SwitchConfig::default()),
        ..v1::Config::default()
    };
    let file = config::parse(
        "[[link]]\nname = \"up0\"\nrole = \"station\"\n[[port]]\nname = \"vm1\"\nchannel = \
         \"up0\"\nmode = \"veb\"\ndevice = { tap = { interface = \"tap1\" } }\n",
    );
    let read = wanted::config(message.clone(), &Config::default()).unwrap();
    assert_eq!(&read, file.unwrap().config());
    // Of the switch itself: what runs.
    let switch = SwitchConfig { name: "another".to_owned(), ..SwitchConfig::default() };
    let running = Config { switch, ..Config::default() };
    let message = v1::Config { switch: None, ..message };
    assert_eq!(wanted::config(message, &running).unwrap().switch, running.switch);
}

#[test]
fn every_field_that_is_wrong_is_named() {
    let memory = v1::device_config::Kind::Memory(v1::MemoryConfig {});
    let message = v1::Config {
        links: vec![v1::LinkConfig {
            name: "a b".to_owned(),
            mtu: Some(1),
            admin: 9,
            ..v1::LinkConfig::default()
        }],
        channels: vec![v1::ChannelConfig {
            name: "blue".to_owned(),
            link: "up0".to_owned(),
            svid: 1 << 16,
        }],
        ports: vec![v1::PortConfig {
            name: "vm1".to_owned(),
            macs: vec!["ff:ff:ff:ff:ff:ff".to_owned()],
            device: Some(v1::DeviceConfig { kind: Some(memory) }),
            learn_limit: Some(0),
            vlan: Some(v1::Vlan { policy: Some(v1::vlan::Policy::Access(4095)) }),
            ..v1::PortConfig::default()
        }],
        ..v1::Config::default()
    };
    let errors = wanted::config(message.clone(), &Config::default()).unwrap_err();
    let fields = errors.errors().iter().map(|error| format!("{}: {}", error.object, error.field));
    assert_eq!(
        fields.collect::<Vec<_>>(),
        [
            "link a b: name",
            "link a b: role",
            "link a b: mtu",
            "link a b: admin",
            "channel blue: svid",
            "port vm1: device",
            "port vm1: mac",
            "port vm1: vlan",
            "port vm1: learn-limit",
        ]
    );
    // A device in the process is kept by who has it.
    let device = DeviceConfig::Memory(memory::Config::default());
    let port = PortConfig::station("vm1", "up0", Mode::Veb, device.clone());
    let running = Config { ports: vec![port], ..Config::default() };
    let errors = wanted::config(message, &running).unwrap_err();
    assert!(errors.errors().iter().all(|error| error.field != "device"), "{errors}");
}
