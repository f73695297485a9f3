import pytest

from appliance.engine.causes import CAUSE_CHARACTERS_MAX, after_ready, while_loading

TRACE = [
    "Traceback (most recent call last):",
    '  File "vllm/x.py", line 1, in x',
    "    raise Y",
    "    ^^^^^^^",
]
CORE = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"

# Each line as vLLM 0.32.0 printed it on a CPU, shortened behind what tells the cause.
SEEN = {
    "context": (
        "  Value error, User-specified max_model_len (4096) is greater than the derived max_model_len "
        "(max_position_embeddings=512.0 or model_max_length=None in model's config.json).",
        "max_context is 4096, but the model was made for 512 tokens.",
    ),
    "kv cache": (
        "ValueError: To serve at least one request with the model's max seq len (1000000), (0.48 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (0.02 GiB). Based on the available memory",
        "The KV cache is too small for max_context 1000000: 0.48 GiB needed, 0.02 GiB given.",
    ),
    "memory": (
        "ValueError: Available memory on node 0 (7.68/8.84 GiB) on kv cache allocation is less than requested "
        "memory for kv (4096.0 GiB). Decrease --kv-cache-memory-bytes",
        "The memory ran out while the model was loaded.",
    ),
    "architecture": (
        "  Value error, Model architectures ['NoSuchForCausalLM'] are not supported for now. Supported",
        "vLLM does not know the architecture NoSuchForCausalLM.",
    ),
    "model type": (
        "  Value error, The checkpoint you are trying to load has model type `nosuch` but Transformers does not "
        "recognize this architecture. This could be because",
        "vLLM does not know the model type nosuch.",
    ),
    "tool parser": (
        "KeyError: 'invalid tool call parser: nosuch (chose from { apertus,cohere_command3,cohere_command4",
        "vLLM has no tool parser named nosuch.",
    ),
    "reasoning parser": (
        "KeyError: \"Reasoning parser 'nosuch' not found. Available parsers: cohere_command3",
        "vLLM has no reasoning parser named nosuch.",
    ),
    "quantisation": (
        "  Value error, Cannot find the config file for awq [type=value_error, input_value=ArgsKwargs(",
        "The weights are not of the quantisation that models.yaml names, or vLLM can't serve that kind here.",
    ),
    "unknown quantisation": (
        "  Value error, Unknown quantization method: bitsandbytes. Must be one of ['awq', 'auto_awq'",
        "The weights are not of the quantisation that models.yaml names, or vLLM can't serve that kind here.",
    ),
    "no kernel for the quantisation": (
        "RuntimeError: _C::static_scaled_fp8_quant() expected at most 0 argument(s) but received 4 argument(s).",
        "The weights are not of the quantisation that models.yaml names, or vLLM can't serve that kind here.",
    ),
    "cut off": (
        "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
        "The model's files are damaged or not whole.",
    ),
    "garbage": (
        "OverflowError: cannot fit 'int' into an index-sized integer",
        "The model's files are damaged or not whole.",
    ),
    "no weights": (
        "RuntimeError: Cannot find any model weights with `/tmp/tiny`",
        "The model's files are damaged or not whole.",
    ),
    "other shape": (
        "RuntimeError: The size of tensor a (128) must match the size of tensor b (64) at non-singleton dimension 1",
        "The weights don't fit the model's config.json.",
    ),
    "no tokenizer": (
        "ValueError: Couldn't instantiate the backend tokenizer from one of: ",
        "The model's tokenizer is damaged or missing.",
    ),
    "no vllm": (
        "ModuleNotFoundError: No module named 'setproctitle'",
        "The engine's environment is not whole.",
    ),
    "tensor parallel": (
        "AssertionError: Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers. Allowed NUMA",
        "Without a GPU this machine can't share one replica among several processors.",
    ),
}

# As vLLM's and torch's sources word them: they need a GPU, or a race, to be seen.
READ = {
    "cuda memory": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "The memory ran out while the model was loaded.",
    ),
    "gpu taken": (
        "ValueError: Free memory on device cuda:0 (1.2/23.6 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 21.7 GiB).",
        "Something else holds the GPU's memory.",
    ),
    "cuda driver": (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
        "vLLM can't use the GPU.",
    ),
    "socket": (
        "OSError: [Errno 98] Address already in use",
        "The engine's socket is in use.",
    ),
    "disk": ("OSError: [Errno 28] No space left on device", "The disk is full."),
}


@pytest.mark.parametrize(("line", "cause"), [*SEEN.values(), *READ.values()], ids=[*SEEN, *READ])
def test_a_known_failure_is_named_with_its_cure(line: str, cause: str) -> None:
    found = while_loading([*TRACE, line, *TRACE, CORE], 1)

    assert found.text == cause
    assert found.cure


@pytest.mark.parametrize("name", ["memory", "gpu taken", "socket", "disk"])
def test_what_may_pass_is_tried_again(name: str) -> None:
    line, _ = (SEEN | READ)[name]

    assert not while_loading([line], 1).final


@pytest.mark.parametrize("name", ["architecture", "cut off", "tool parser", "no vllm"])
def test_what_stays_wrong_is_not_tried_again(name: str) -> None:
    line, _ = SEEN[name]

    assert while_loading([line], 1).final


def test_an_unknown_failure_is_told_in_vllms_own_last_words() -> None:
    found = while_loading([*TRACE, "KeyError: first", "RuntimeError: something new", CORE], 1)

    assert (found.text, found.final) == ("RuntimeError: something new", False)


def test_last_words_are_bounded_and_printable() -> None:
    text = while_loading(["ValueError: \x1b[31m" + "x" * 1000], 1).text

    assert len(text) == CAUSE_CHARACTERS_MAX
    assert text.isprintable()


def test_silence_is_told_by_the_exit_code() -> None:
    assert while_loading(["loading"], 3).text == "vLLM ended while it was loading (exit code 3)."
    assert while_loading([], -11).text == "vLLM ended while it was loading (SIGSEGV)."


def test_a_kill_points_at_the_memory() -> None:
    found = while_loading([], -9)

    assert found.text == "vLLM was killed while it was loading."
    assert "out of memory" in found.cure


def test_once_serving_the_cause_holds_constants_only() -> None:
    assert after_ready(1, "EngineCore failed.").text == (
        "vLLM ended while it was serving (exit code 1). Its last error: EngineCore failed."
    )
    assert after_ready(1, "<dynamic>").text == "vLLM ended while it was serving (exit code 1)."
    assert after_ready(-9, "some error").text == "vLLM was killed while it was serving."
