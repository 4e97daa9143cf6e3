#!/bin/sh
# Untested; cloud-hypervisor.json beside it is checked against the schema of the API only. A
# Cloud Hypervisor VM at port vm1 of qemu.toml. Its memory has to be shared; num_queues counts
# rings, two for each of the port's queues; vhost_mode is its own end: Client where the port
# has role = "server".
set -e
api=/run/cloud-hypervisor-vm1.sock
cloud-hypervisor --api-socket "$api" &
until ch-remote --api-socket "$api" ping; do sleep 0.1; done
ch-remote --api-socket "$api" create "$(dirname "$0")/cloud-hypervisor.json"
ch-remote --api-socket "$api" boot
wait
