"""What `inferfly up` shows: progress while engines load, then how to use them, then only what changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from appliance.domain import EngineState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.engine.supervisor import UnitState


class Screen(Protocol):
    """Where the operator looks."""

    def verifying(self, model: str, done: int, total: int) -> None:
        """How many bytes of a model's files are verified."""
        ...

    def engines(self, states: Mapping[str, UnitState]) -> None:
        """How each engine is now; called several times a second while some load."""
        ...

    def settled(self) -> None:
        """The loading is over."""
        ...

    def say(self, text: str) -> None: ...


class Plain:
    """Lines, where nobody watches: a log file, a pipe. One per change of an engine's state."""

    def __init__(self) -> None:
        self._seen: dict[str, EngineState] = {}

    def verifying(self, model: str, done: int, total: int) -> None:
        pass

    def engines(self, states: Mapping[str, UnitState]) -> None:
        for name, unit in states.items():
            if self._seen.get(name) is not unit.state and unit.state is not EngineState.STOPPED:
                self._seen[name] = unit.state
                self.say(f"engine {name}: {unit.state}")

    def settled(self) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201  # this is the program's screen


class Terminal:
    """A live line per engine with its elapsed seconds. Redrawn by its caller: no thread of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots")
        self._live: Live | None = None

    def verifying(self, model: str, done: int, total: int) -> None:
        self._show(Text(f" Verifying {model}  {100 * done // max(total, 1)} %"))

    def engines(self, states: Mapping[str, UnitState]) -> None:
        self._show(Group(*self._rows(states)))

    def settled(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, picture: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(picture, refresh=True)

    def _rows(self, states: Mapping[str, UnitState]) -> Iterable[Text]:
        now = time.time()
        frame = self._spinner.render(now)
        for name, unit in states.items():
            seconds = max(0, round(now - unit.since_ms / 1000))
            mark = {EngineState.READY: "+", EngineState.FAILED: "x"}.get(unit.state, str(frame))
            cause = f"  {unit.cause}" if unit.cause else ""
            yield Text(
                f" {mark} engine {name}  {unit.state}  {seconds} s{cause}", no_wrap=True, overflow="ellipsis"
            )


def choose() -> Screen:
    """A live screen on a terminal, lines elsewhere."""
    console = Console()
    return Terminal(console) if console.is_terminal else Plain()


def greeting(base_url: str, model: str, key: str | None) -> str:
    """How to use the appliance: address, first key, and two snippets to paste."""
    shown = key or "YOUR_KEY"
    about_key = (
        f"API key   {key}\n          Shown once; only its SHA-256 is kept."
        if key
        else "API key   one exists already; `inferfly keys create --account default --name NAME` makes another"
    )
    return f"""
The appliance is ready. Ctrl-C drains and stops it.

Base URL  {base_url}
{about_key}

curl {base_url}/chat/completions \\
  -H "Authorization: Bearer {shown}" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{base_url}", api_key="{shown}")
answer = client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "Hello!"}}]
)
print(answer.choices[0].message.content)
"""
