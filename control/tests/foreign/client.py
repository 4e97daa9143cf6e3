"""A client that knows nothing of Hairpin: it asks the switch at the socket that it is given what
it can do (gRPC reflection), and does it. Prints what it found, a line each."""

import sys

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

# Of itself it would call the host by the socket's path, which is no name of one (RFC 3986).
options = [("grpc.default_authority", "localhost")]
channel = grpc.insecure_channel("unix:" + sys.argv[1], options=options)
database = ProtoReflectionDescriptorDatabase(channel)
print("services", *sorted(database.get_services()))
pool = DescriptorPool(database)


def message(kind, **fields):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(kind))(**fields)


def call(called, method, **fields):
    found = pool.FindServiceByName(called).FindMethodByName(method)
    request = message_factory.GetMessageClass(found.input_type)
    response = message_factory.GetMessageClass(found.output_type)
    kinds = {False: channel.unary_unary, True: channel.unary_stream}
    ask = kinds[found.server_streaming](
        f"/{called}/{method}",
        request_serializer=lambda it: it.SerializeToString(),
        response_deserializer=response.FromString,
    )
    return ask(request(**fields), timeout=20)


SWITCH = "hairpin.v1.Switch"
health = call("grpc.health.v1.Health", "Check", service=SWITCH)
print("serving", health.status == 1)

got = call(SWITCH, "Get")
print("links", *(link.name for link in got.config.links))
blue = message("hairpin.v1.ChannelConfig", name="blue", link="up0", svid=100)
edit = message("hairpin.v1.Edit", add=message("hairpin.v1.Object", channel=blue))
applied = call(SWITCH, "Edit", edits=[edit], base_revision=got.revision)
print("revision", applied.revision, *(change.name for change in applied.changes))

try:
    call(SWITCH, "Edit", edits=[edit], base_revision=got.revision)
except grpc.RpcError as error:
    print("late", error.code().name)

got = call(SWITCH, "Get")
got.config.links[0].mtu = 1
try:
    call(SWITCH, "Apply", config=got.config)
except grpc.RpcError as error:
    print("wrong", error.code().name)
    for detail in rpc_status.from_call(error).details:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            print("fields", *(it.field.replace(" ", "_") for it in request.field_violations))

events = call(SWITCH, "Watch", after_sequence=0)
for response in events:
    if response.HasField("event"):
        print("event", response.event.sequence, response.event.object)
        break
events.cancel()
