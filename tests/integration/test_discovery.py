"""Health, reflection, model and status, HTTP and metrics: what tools ask a server."""
import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import harness

SERVICE = "ebbinghaus.v1.InferenceService"
METRICS = """tokens_total tokens_per_second decode_seconds_total prefill_seconds_total requests_total
    requests_finished_total requests_rejected_total requests_running requests_queued queued_prompt_tokens
    time_to_first_token_seconds inter_token_latency_seconds request_duration_seconds queue_seconds batch_size
    kv_used_bytes kv_cached_bytes kv_capacity_bytes live_tokens forgotten_tokens_total token_age_at_forgetting_tokens
    retention_ratio cancel_latency_seconds stream_backpressure_total scheduler_last_step_timestamp_seconds build_info
    model_info""".split()
LABELS = ["baseline", "soft_delete", "sparse_attention"]


@pytest.mark.parametrize("name", ["", SERVICE])
def test_health_says_serving(server, name):
    health = health_pb2_grpc.HealthStub(server.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_other_services(server):
    with pytest.raises(grpc.RpcError) as error:
        health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(service="other"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_changes_when_draining(pb, model):
    with harness.Server(model, "--drain-timeout", "1h") as server:
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running = pb.Stub(server.channel).Generate(pb.GenerateRequest(text="x", max_new_tokens=6000, ignore_eos=True))
        next(running)
        server.signal()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        running.cancel()
        assert server.wait() == 0


def test_reflection_describes_the_service(server):
    database = ProtoReflectionDescriptorDatabase(server.channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    service = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE)
    assert [method.name for method in service.methods] == [
        "Generate", "Complete", "Score", "Tokenize", "Detokenize", "GetModel", "GetServerStatus"]
    assert "generation_mode" in service.methods_by_name["Generate"].input_type.fields_by_name


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_in_both_versions(server, version):
    ask = server.channel.stream_stream(
        "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo" % version,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
    services, symbol, file, nothing, unknown = ask(iter([
        reflection_pb2.ServerReflectionRequest(list_services="", host="here"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE + ".Generate"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="google/protobuf/duration.proto"),
        reflection_pb2.ServerReflectionRequest(),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing")]))
    names = [service.name for service in services.list_services_response.service]
    assert services.valid_host == services.original_request.host == "here"
    assert names == [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                     "grpc.reflection.v1alpha.ServerReflection"]
    found = [descriptor_pb2.FileDescriptorProto.FromString(data)
             for data in symbol.file_descriptor_response.file_descriptor_proto]
    assert found[0].package == "ebbinghaus.v1"
    assert {dependency for one in found for dependency in one.dependency} <= {one.name for one in found}
    assert len(file.file_descriptor_response.file_descriptor_proto) == 1
    assert nothing.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    own = "grpc.reflection.%s.ServerReflection" % version
    database = ProtoReflectionDescriptorDatabase(server.channel)
    info = descriptor_pool.DescriptorPool(database).FindServiceByName(own).methods[0]
    assert info.input_type.full_name == "grpc.reflection.%s.ServerReflectionRequest" % version


def test_reflection_can_be_switched_off(model):
    with harness.Server(model, "--reflection", "off") as server:
        with pytest.raises(grpc.RpcError) as error:
            ProtoReflectionDescriptorDatabase(server.channel).get_services()
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_model_is_described(pb, server, stub):
    answer = stub.GetModel(pb.GetModelRequest())
    assert answer.name == server.model_name
    assert (answer.vocabulary_size, answer.context_tokens) == (300, 8192)
    assert (answer.layers, answer.query_heads, answer.kv_heads, answer.head_size) == (4, 4, 2, 16)
    assert set(answer.eos_token_ids) == {296, 298}
    assert (answer.weights, answer.kv) == ("f32", "f32")
    assert answer.kv_bytes_per_token == 4 * 2 * 2 * 16 * 4
    assert answer.has_chat_template and answer.architecture


def test_the_status_is_described(pb, stub):
    first = stub.GetServerStatus(pb.GetServerStatusRequest())
    assert first.version.count(".") == 2 and first.state == "serving" and first.threads == 1
    assert first.default_mode == pb.GENERATION_MODE_BASELINE and first.default_preset == pb.MEMORY_PRESET_DEFAULT
    assert 0 < first.kv_capacity_bytes <= 256 << 20
    second = stub.GetServerStatus(pb.GetServerStatusRequest())
    assert second.uptime.ToTimedelta() > first.uptime.ToTimedelta()


def test_http_answers(server):
    code, headers, text = server.http("/")
    assert code == 200 and server.model_name in text and "/metrics" in text
    assert headers["Content-Type"].startswith("text/html")
    assert server.http("/healthz")[0] == 200
    assert server.http("/readyz")[0] == 200
    assert server.http("/nothing")[0] == 404
    assert server.http("/metrics")[1]["Content-Type"].startswith("text/plain; version=0.0.4")


def test_every_metric_of_the_contract_is_there_from_the_start(model):
    with harness.Server(model) as server:
        text = server.http("/metrics")[2]
        missing = [name for name in METRICS if "ebbinghaus_" + name not in text]
        assert not missing
        values = server.metrics()
        for mode in LABELS:
            for kind in ["prompt", "prompt_cached", "generated"]:
                key = [k for k in values if k.startswith("ebbinghaus_tokens_total{") and
                       'mode="%s"' % mode in k and 'kind="%s"' % kind in k]
                assert len(key) == 1 and values[key[0]] == 0  # the warm-up is not counted
        assert len(values) < 1000


def test_metrics_count_tokens_and_requests(pb, server, stub):
    def value(name, *labels):
        found = [v for k, v in server.metrics().items()
                 if k.startswith("ebbinghaus_%s{" % name) and all(label in k for label in labels)]
        assert found, name
        return sum(found)

    def counted():
        return (value("tokens_total", 'mode="soft_delete"', 'kind="generated"'),
                value("tokens_total", 'mode="soft_delete"', 'kind="prompt"'),
                value("requests_total", 'mode="soft_delete"'),
                value("requests_finished_total", 'mode="soft_delete"', 'reason="length"'))
    before = counted()
    answer = stub.Complete(pb.GenerateRequest(text="count me", max_new_tokens=7, ignore_eos=True, request_id="never-a-label",
                                              generation_mode=pb.GENERATION_MODE_SOFT_DELETE))
    expected = (before[0] + 7, before[1] + answer.started.prompt_tokens, before[2] + 1, before[3] + 1)
    harness.wait_until(lambda: counted() == expected, "the counters")
    assert "never-a-label" not in server.http("/metrics")[2]


def test_refused_requests_are_counted(pb, server, stub):
    def refused():
        return sum(v for k, v in server.metrics().items() if k.startswith("ebbinghaus_requests_rejected_total"))
    before = refused()
    with pytest.raises(grpc.RpcError):
        stub.Complete(pb.GenerateRequest())
    assert refused() == before + 1
