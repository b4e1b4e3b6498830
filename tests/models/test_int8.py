"""int8 layers: close to fp32, each row as it would be alone, and only where a model reads and writes on a CPU."""

import pytest
import torch
from pydantic import ValidationError
from tests.models.test_score import build, report_progress, some_asks

from pyrite.audit.config import AuditConfig
from pyrite.errors import UserError
from pyrite.models import hardware, int8
from pyrite.models.continuations import continuations
from pyrite.models.generate import generate
from pyrite.models.hardware import Compute
from pyrite.models.int8 import Int8Linear, Rounding, rounded, with_int8_layers
from pyrite.models.load import for_generation
from pyrite.models.rows import reader_of
from pyrite.models.score import score_in_fast_precision
from pyrite.models.work import Work
from pyrite.probe.config import ProbeConfig
from pyrite.probe.int8_check import changed_note, same_texts
from pyrite.repair.config import RepairOptions

INT8 = Compute("cpu", "int8")
needs_vnni = pytest.mark.skipif(not int8.is_supported(), reason="this processor has no int8 products (VNNI)")


def test_rounding_by_hand() -> None:
    whole, scale = rounded(torch.tensor([[0.5, -1.27, 0.004], [0.0, 0.0, 0.0]]))
    assert whole.tolist() == [[50, -127, 0], [0, 0, 0]]
    assert scale[0].item() == pytest.approx(0.01)


def test_what_goes_in_is_rounded_token_by_token() -> None:
    rows = torch.randn(600, 40)  # more than a chunk
    rows[7] *= 1000
    whole, scale = Rounding(40).rounded(rows)
    back = (whole.float() - int8.MIDDLE) * scale
    assert ((back - rows).abs() <= scale * 0.5001).all()
    alone, alone_scale = Rounding(40).rounded(rows[300:301])
    assert torch.equal(alone, whole[300:301])
    assert torch.equal(alone_scale, scale[300:301])


@needs_vnni
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (7,), (600,), (2, 5), (0,)])
def test_the_product_of_the_rounded_numbers(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 160, bias=bias)
    wide = torch.randn(*shape, 192)[..., ::2]  # not contiguous
    whole, scale = rounded(layer.weight.detach())
    went_in, steps = Rounding(96).rounded(wide.reshape(-1, 96))
    by_hand = (went_in.double() - int8.MIDDLE) @ whole.double().T * steps.double() * scale.double()
    by_hand = (by_hand + (layer.bias.detach().double() if bias else 0)).view(*shape, 160)
    with torch.inference_mode():
        product = Int8Linear(layer, Rounding(96))(wide)
        plain = layer(wide)
    torch.testing.assert_close(product.double(), by_hand, atol=1e-4, rtol=1e-4)
    if wide.numel():
        assert (product - plain).norm() < 0.02 * plain.norm()


@needs_vnni
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma", "gpt_neox"])
def test_a_model_in_int8_is_close_to_itself_and_read_by_the_same_engine(kind: str) -> None:
    asks = some_asks()
    plain, _ = continuations(build(kind), asks, report_progress=report_progress)
    model, compute = for_generation(build(kind), INT8)
    assert compute == INT8
    assert reader_of(model) is not None  # its check compares int8 with int8
    assert any(isinstance(layer, Int8Linear) for layer in model.modules())
    quick, _ = continuations(model, asks, report_progress=report_progress)
    alone = [continuations(model, [ask], report_progress=report_progress)[0][0] for ask in asks[:5]]
    differences = [
        abs(first.logprob - second.logprob)
        for row, other in zip(plain, quick, strict=True)
        for first, second in zip(row, other, strict=True)
    ]
    assert 0 < sum(differences) / len(differences) < 0.6
    for row, other in zip(quick, alone, strict=False):
        for first, second in zip(row, other, strict=True):
            assert first.logprob == pytest.approx(second.logprob, abs=0.05)


@needs_vnni
def test_writing_in_int8_is_the_same_every_time() -> None:
    model = with_int8_layers(build("llama"))
    prompts = [[5, 6, 7], [8, 9], [5, 6, 7, 8, 9]]
    first = dict(generate(model, prompts, max_new_tokens=6, end_ids=[0]))
    again = dict(generate(model, prompts, max_new_tokens=6, end_ids=[0]))
    assert first == again or all(first[at].ids == again[at].ids for at in first)


@needs_vnni
def test_small_outputs_stay_and_the_output_matrix_keeps_its_weight() -> None:
    model = build("llama", "SequenceClassification")
    with_int8_layers(model)
    assert type(model.score) is torch.nn.Linear
    causal = build("llama", tie_word_embeddings=True)
    with_int8_layers(causal)
    head = causal.get_output_embeddings()
    assert isinstance(head, Int8Linear)
    assert head.weight is causal.get_input_embeddings().weight


@needs_vnni
def test_the_share_of_changed_answers_is_told() -> None:
    rows = [[5, 6, 7, at] for at in range(8, 28)]

    def score(model: torch.nn.Module, compute: Compute, places: list[int]) -> tuple[object, Work]:
        with torch.inference_mode(), compute.autocast():
            return model(torch.tensor([rows[at] for at in places])).logits[:, -1, :3].numpy(), Work()

    _, record = score_in_fast_precision(lambda: build("llama"), INT8, len(rows), score)  # type: ignore[arg-type]
    assert record["precision"] == "int8"
    assert record["int8_check"]["checked"] == 20
    assert 10 <= record["int8_check"]["same"] <= 20
    assert "of 20 answers" in changed_note(record)[0]


def test_what_is_said_of_a_check() -> None:
    assert changed_note({}) == []
    assert changed_note({"int8_check": same_texts(["a", "b", "c", "d"], ["a", "b", "c", "x"])}) == [
        "int8 changed 1 of 4 answers that were also asked for in fp32 (25.0 %)"
    ]


def test_keys_differ() -> None:
    assert Compute("cpu", "int8").as_config() != Compute("cpu", "fp32").as_config()


def test_other_devices_and_processors_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with pytest.raises(UserError, match="int8 on a cuda") as refused:
        hardware.choose("int8")
    assert "precision: auto" in refused.value.fix
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(int8, "is_supported", lambda: False)
    with pytest.raises(UserError, match="VNNI"):
        hardware.choose("int8")


def test_training_and_endpoints_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="what trains takes auto, fp32 or bf16-mixed"):
        RepairOptions(forget=("rows.jsonl",), precision="int8")
    with pytest.raises(UserError, match="not for an endpoint"):
        ProbeConfig(task=("ifeval=x",), model="m", backend="openai", base_url="http://localhost/v1", precision="int8")
    assert ProbeConfig(task=("hans=x",), model="m", precision="int8").precision == "int8"
    assert AuditConfig(data=("x.jsonl",), precision="int8").precision == "int8"
