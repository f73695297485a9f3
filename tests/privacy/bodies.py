"""Bodies of requests, one for each endpoint, with a canary in every field that takes a caller's words."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Place = Callable[[str], str]
"""Gives the canary of a place."""


class Bodies:
    """`at` names a place; the same place has the same word in all bodies."""

    def __init__(self, at: Place, writes: str, counts: str) -> None:
        """`writes` and `counts` are the names of two models: of texts, and of numbers."""
        self.at = at
        self.writes = writes
        self.counts = counts

    def chat(self, **fields: Any) -> Body:
        at = self.at
        call = {"name": at("called tool"), "arguments": json.dumps({at("argument"): at("argument value")})}
        return {
            "model": self.writes,
            "messages": [
                {"role": "system", "content": at("system message"), "name": at("speaker")},
                {"role": "user", "content": [{"type": "text", "text": at("part of a message")}]},
                {
                    "role": "assistant",
                    "content": at("assistant message"),
                    "tool_calls": [{"id": at("call id"), "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": at("call id"), "content": at("tool result")},
                {"role": "assistant", "content": at("answer"), "reasoning_content": at("earlier thought")},
                {"role": "user", "content": at("user message")},
            ],
            "tools": [{"type": "function", "function": self._function("parameters")}],
            "tool_choice": "none",
            "stop": [at("stop string"), at("another stop string")],
            "user": at("user"),
            "metadata": {at("metadata key"): at("metadata value")},
            "safety_identifier": at("safety identifier"),
            "prompt_cache_key": at("prompt cache key"),
            "prediction": {"type": "content", "content": at("prediction")},
            "bad_words": [at("bad word")],
            "max_tokens": 48,
            "temperature": 1,
        } | fields

    def completion(self, **fields: Any) -> Body:
        at = self.at
        return {"model": self.writes, "prompt": at("prompt"), "stop": at("stop"), "max_tokens": 48} | fields

    def response(self, **fields: Any) -> Body:
        at = self.at
        said: Body = {
            "type": "output_text",
            "text": at("output text"),
            "annotations": [{at("annotation"): at("annotation value")}],
        }
        return {
            "model": self.writes,
            "instructions": at("instructions"),
            "input": [
                {"role": "developer", "content": at("developer item")},
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": at("input text")}],
                },
                {
                    "type": "reasoning",
                    "id": at("item id"),
                    "summary": [{"text": at("summary")}],
                    "encrypted_content": at("encrypted"),
                },
                {"type": "message", "role": "assistant", "content": [said], "id": at("message id")},
                {
                    "type": "function_call",
                    "call_id": at("function call id"),
                    "name": at("called function"),
                    "arguments": json.dumps({at("function argument"): at("function argument value")}),
                },
                {
                    "type": "function_call_output",
                    "call_id": at("function call id"),
                    "output": at("function output"),
                },
                {"role": "user", "content": at("last item")},
            ],
            "tools": [{"type": "function", **self._function("parameters")}],
            "tool_choice": "none",
            "metadata": {at("response metadata key"): at("response metadata value")},
            "user": at("response user"),
            "safety_identifier": at("response safety identifier"),
            "prompt_cache_key": at("response cache key"),
            "max_output_tokens": 48,
        } | fields

    def message(self, **fields: Any) -> Body:
        at = self.at
        return (
            self.count()
            | {
                "max_tokens": 48,
                "metadata": {"user_id": at("user id")},
                "stop_sequences": [at("stop sequence")],
            }
            | fields
        )

    def count(self, **fields: Any) -> Body:
        """Of /v1/messages/count_tokens."""
        at = self.at
        system = {"type": "text", "text": at("system block"), "cache_control": {"type": at("cache control")}}
        result = {"type": "text", "text": at("result block")}
        use = {
            "type": "tool_use",
            "id": at("use id"),
            "name": at("used tool"),
            "input": {at("input"): at("input value")},
        }
        return {
            "model": self.writes,
            "system": [system],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": at("text block")}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": at("thinking"), "signature": at("signature")},
                        {"type": "redacted_thinking", "data": at("redacted thinking")},
                        {"type": "text", "text": at("assistant block")},
                        use,
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": at("use id"), "content": [result]},
                        {"type": "text", "text": at("last block")},
                    ],
                },
            ],
            "tools": [
                {**self._function("input_schema"), "input_examples": [{at("example"): at("example value")}]}
            ],
            "tool_choice": {"type": "none"},
        } | fields

    def embedding(self, **fields: Any) -> Body:
        at = self.at
        texts = [at("embedded text"), at("another embedded text")]
        return {"model": self.counts, "input": texts, "user": at("embedding user")} | fields

    def rerank(self, **fields: Any) -> Body:
        at = self.at
        documents = [at("document"), {"text": at("document object")}]
        return {"model": self.counts, "query": at("query text"), "documents": documents} | fields

    def score(self, **fields: Any) -> Body:
        at = self.at
        return {"model": self.counts, "text_1": at("left text"), "text_2": [at("right text")]} | fields

    def tokenize(self, **fields: Any) -> Body:
        return {"model": self.writes, "prompt": self.at("counted prompt")} | fields

    def tokenize_chat(self, **fields: Any) -> Body:
        chat = self.chat()
        return {
            "model": self.writes,
            "messages": chat["messages"],
            "tools": chat["tools"],
            "return_token_strs": True,
        } | fields

    def detokenize(self, **fields: Any) -> Body:
        return {"model": self.writes, "tokens": [ord(letter) for letter in self.at("token ids")]} | fields

    def picture(self) -> str:
        """As a data URL, with one canary among what the file says of itself and one in its pixels."""
        return f"data:image/png;base64,{base64.b64encode(self._png()).decode()}"

    def _png(self) -> bytes:
        at = self.at
        pixels = at("pixels").encode()
        head = struct.pack(">IIBBBBB", len(pixels), 1, 8, 0, 0, 0, 0)
        chunks = [
            (b"IHDR", head),
            (b"eXIf", b"MM\0*\0\0\0\x08\0\0" + at("EXIF").encode()),
            (b"tEXt", b"Comment\0" + at("comment").encode()),
            (b"IDAT", zlib.compress(b"\0" + pixels, 0)),
            (b"IEND", b""),
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )

    def _function(self, parameters: str) -> Body:
        at = self.at
        schema = {
            "type": "object",
            "description": at("schema description"),
            "properties": {at("schema key"): {"type": "string", "enum": [at("schema value")]}},
        }
        return {"name": at("tool name"), "description": at("tool description"), parameters: schema}
