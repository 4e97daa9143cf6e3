#!/bin/sh
# Untested. A Cloud Hypervisor VM at port vm1 of qemu.toml: kernel and disk are arguments.
# Its memory has to be shared; num_queues counts rings, two for each of the port's queues;
# vhost_mode is its own end: client where the port has role = "server".
exec cloud-hypervisor --kernel "$1" --disk path="$2" --cmdline "console=ttyS0 root=/dev/vda1" \
  --cpus boot=1 --memory size=1G,shared=on \
  --net vhost_user=true,socket=/run/hairpin/vm1.sock,vhost_mode=client,num_queues=2,mac=52:54:00:00:00:01
