//! A VM whose memory is cut short while its frames go to where the kernel reads them.

use hairpin_bench::front_end::memory::{GUEST, PAGE_BYTES};
use hairpin_bench::front_end::station::Station;
use hairpin_bench::front_end::{FrontEnd, Layout};
use hairpin_dataplane::sys::virtqueue::PREFIX_BYTES;
use hairpin_dataplane::sys::virtqueue::driver::{Access, Buffer};
use hairpin_dataplane::wire::Mac;
use hairpin_tests::bed::{Daemon, Workers, eventually, root};
use serde_json::Value;
use tempfile::TempDir;

/// The ring by which a guest of one pair transmits.
const TRANSMIT: usize = 1;

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

with_one_and_two_workers! {
    what_the_kernel_cannot_read_is_the_fault_of_the_vm_and_not_of_the_tap
}

fn configuration(directory: &TempDir) -> String {
    let mut text = "[[link]]\nname = \"up0\"\nrole = \"station\"\n".to_owned();
    let socket = |name| format!("{}/{name}", directory.path().display());
    let vm = |name| format!("vhost-user = {{ socket = \"{}\", role = \"server\" }}", socket(name));
    let devices = [vm("vm1"), vm("vm2"), "tap = { interface = \"tap3\" }".to_owned()];
    for (number, device) in (1..).zip(devices) {
        text += &format!(
            "[[port]]\nname = \"vm{number}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"{}\"\ndevice = {{ {device} }}\n",
            mac(number)
        );
    }
    text
}

/// Offers a frame that lies across the end of what is left of the memory: its first bytes are
/// there, the rest is not.
fn send_cut_short(guest: &mut FrontEnd, frame: &[u8]) {
    let mut hostile = guest.hostile();
    // Behind the first page of the spare memory, which begins with a page.
    let end = hostile.spare() + PAGE_BYTES;
    let address = end - 400;
    hostile.memory().write(address + PREFIX_BYTES as u64, frame);
    let length = (PREFIX_BYTES + frame.len()) as u32;
    hostile.offer(TRANSMIT, &[Buffer { address, length, access: Access::Read }]).unwrap();
    hostile.memory().truncate(end - GUEST).unwrap();
    hostile.publish(TRANSMIT);
}

fn what_the_kernel_cannot_read_is_the_fault_of_the_vm_and_not_of_the_tap(workers: Workers) {
    let Some(_root) = root() else { return };
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(workers, &configuration(&directory)).unwrap();
    daemon.namespace().ip("link set tap3 up").unwrap();
    let connect = |name| FrontEnd::connect(&directory.path().join(name), Layout::SPLIT).unwrap();
    let [mut hostile, mut honest] = ["vm1", "vm2"].map(connect);
    let shown = |port: &str| daemon.hairpin(&format!("port show {port}")).unwrap();
    for port in ["vm1", "vm2", "vm3"] {
        eventually(&format!("{port} up"), || shown(port)["state"] == "up").unwrap();
    }
    let to_tap = |from, number| Station { own: mac(from), peer: mac(3) }.frame(number, 1000);
    send_cut_short(&mut hostile, &to_tap(1, 0));
    let said = |shown: &Value| shown["last_error"].as_str().unwrap_or_default().to_owned();
    eventually("a quarantine", || said(&shown("vm1")).contains("was cut short")).unwrap();
    assert_eq!(shown("vm1")["state"], "quarantined");
    let frames = [to_tap(2, 1), to_tap(2, 2)];
    assert_eq!(honest.send(&frames.each_ref().map(Vec::as_slice)), 2);
    let count = |what| daemon.count("vm3", what).unwrap();
    eventually("what others send", || count("/tx_frames") == 2).unwrap();
    assert_eq!([count("/drops/sender_fault"), count("/drops/device_error")], [1, 0]);
    assert_eq!(shown("vm3")["state"], "up");
}
