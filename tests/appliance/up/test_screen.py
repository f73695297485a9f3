from io import StringIO

import pytest
from rich.console import Console

from appliance.domain import EngineState
from appliance.engine.supervisor import UnitState
from appliance.up.screen import Plain, Terminal, choose, greeting


def unit(state: EngineState, cause: str = "") -> UnitState:
    return UnitState(state, 0, None, 0, cause, "")


def test_without_a_terminal_each_change_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Plain()

    for state in (EngineState.STOPPED, EngineState.LOADING, EngineState.LOADING, EngineState.READY):
        screen.engines({"tiny": unit(state)})
    screen.settled()

    assert capsys.readouterr().out == "engine tiny: loading\nengine tiny: ready\n"


def test_on_a_terminal_each_engine_is_a_live_line_with_its_seconds() -> None:
    written = StringIO()
    screen = Terminal(Console(file=written, force_terminal=True, width=200))

    screen.engines({"tiny": unit(EngineState.LOADING), "other": unit(EngineState.FAILED, "no memory [red]")})
    screen.settled()
    screen.settled()
    screen.say("ready [at] last")

    shown = written.getvalue()
    assert "engine tiny  loading" in shown
    assert "no memory [red]" in shown
    assert "ready [at] last\n" in shown


def test_tests_run_without_a_terminal() -> None:
    assert isinstance(choose(), Plain)


def test_the_greeting_can_be_pasted() -> None:
    text = greeting("http://127.0.0.1:8080/v1", "tiny", "ifk_live_x")

    assert "Base URL  http://127.0.0.1:8080/v1" in text
    assert "API key   ifk_live_x" in text
    assert "curl http://127.0.0.1:8080/v1/chat/completions" in text
    assert 'OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="ifk_live_x")' in text
    assert 'model="tiny"' in text


def test_a_key_that_exists_is_not_shown_again() -> None:
    text = greeting("http://127.0.0.1:8080/v1", "tiny", None)

    assert "inferfly keys create" in text
    assert "YOUR_KEY" in text


def test_the_greetings_python_is_python() -> None:
    text = greeting("http://127.0.0.1:8080/v1", "tiny", None)

    compile(text[text.index("from openai") :], "<snippet>", "exec")
