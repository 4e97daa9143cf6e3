"""Somebody without rights (user 65534) who asks for counters as fast as it goes, over several
connections, for three seconds. Prints how many answers came, and which refusals."""

import os
import sys
import time

import grpc

CONNECTIONS, UNDERWAY = 8, 16
METHOD = "/hairpin.v1.Switch/Stats"


def connection(number):
    # Channels with the same options share one connection.
    options = [("grpc.default_authority", "localhost"), ("hairpin.number", number)]
    channel = grpc.insecure_channel("unix:" + sys.argv[1], options=options)
    return channel.unary_unary(METHOD)


# A channel connects when it is used first, and Python is all loaded by then.
ask = [connection(number) for number in range(CONNECTIONS)]
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
answered, refused = 0, set()
end = time.monotonic() + 3
underway = [[call.future(b"", timeout=20) for _ in range(UNDERWAY)] for call in ask]
while time.monotonic() < end:
    for call, futures in zip(ask, underway):
        for place, future in enumerate(futures):
            if not future.done():
                continue
            if future.code() == grpc.StatusCode.OK:
                answered += 1
            else:
                refused.add(future.code().name)
            futures[place] = call.future(b"", timeout=20)
print("answered", answered)
print("refused", *sorted(refused))
# Without waiting for what is under way, whose answers nobody wants any more.
sys.stdout.flush()
os._exit(0)
