"""Short prompts made long: by the playground's grammar, or by a chat endpoint."""

import http.server
import json
import threading

import pytest
import tiny_model

from sora_jax.data.playground.claims import parse
from sora_jax.studio.expand import Chat, by_grammar, cards_of, expand_with
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.presets import PRESETS, with_presets


@pytest.mark.parametrize(
    "prompt",
    [
        "red star",
        "a blue ring circles around",
        "two things: a green heart and a white square grows",
        "big moon",
    ],
)
def test_the_grammar_keeps_what_is_said_and_names_the_rest(prompt):
    for seed in range(5):
        longer = by_grammar(prompt, seed)
        said, now = parse(prompt), parse(longer)
        assert None not in (now.background_color, now.camera)
        assert len(now.objects) == len(said.objects)
        named = {(one.color, one.shape) for one in now.objects}
        for one in said.objects:
            assert any(one.color in (None, color) and one.shape == shape for color, shape in named)
        assert all(one.color and one.motion for one in now.objects)
    assert by_grammar("a cat sits") == "a cat sits"


def test_a_generation_records_what_was_asked():
    pipeline = Pipeline(tiny_model.checkpoint())
    clip = pipeline.generate("red circle", expand=True, steps=2, progress=False)
    assert clip.metadata["asked"] == "red circle"
    assert clip.metadata["prompt"] == by_grammar("red circle", 0)
    clips = pipeline.generate(
        ["red circle"] * 2, expand=True, seed=7, variations=2, steps=1, frames=1, progress=False
    )
    expected = [by_grammar("red circle", seed) for seed in (7, 7, 9, 9)]
    assert [clip.metadata["prompt"] for clip in clips] == expected
    clip = pipeline.generate("a red circle spins", presets=["zoom-in"], steps=2, progress=False)
    assert clip.metadata["prompt"] == "a red circle spins while the camera zooms in"
    assert "asked" not in pipeline.generate("a red circle", steps=2, progress=False).metadata


def test_presets_say_what_they_are_called():
    for name, phrase in PRESETS["camera"].items():
        assert parse(f"a red circle spins {phrase}").camera == {
            "still": "still",
            "pan-left": "pans left",
            "pan-right": "pans right",
            "zoom-in": "zooms in",
            "zoom-out": "zooms out",
        }.get(name)
    lights = [parse(f"a red circle spins {phrase}").light for phrase in PRESETS["light"].values()]
    assert lights == ["steady", "gets dark", "gets bright"]
    both = with_presets("a red circle spins.", ["darkening", "night", "zoom-in"])
    assert both.startswith(
        "a red circle spins on a plain navy background while the camera zooms in as the light"
    )
    with pytest.raises(ValueError, match="no preset 'noir'"):
        with_presets("a", ["noir"])
    with pytest.raises(ValueError, match="both of camera"):
        with_presets("a", ["zoom-in", "pan-left"])


@pytest.fixture
def endpoint():
    """A chat endpoint that says what it is told to, and keeps what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        answer, asked, status = "", [], 200

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.asked.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            said = json.dumps({"choices": [{"message": {"content": self.answer}}]}).encode()
            self.send_response(self.status)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Handler, Chat(url=f"http://127.0.0.1:{server.server_port}/v1", model="small", key="secret")
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_chat_endpoint_expands(endpoint):
    handler, chat = endpoint
    handler.answer = " A red star \n spins. "
    assert expand_with(chat)("red star") == "A red star spins."
    path, key, body = handler.asked[-1]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "small")
    assert body["messages"][-1] == {"role": "user", "content": "red star"}
    assert "secret" not in repr(chat)
    handler.answer = 'Here: [{"at": 0, "prompt": "a", "cut": false}, {"at": 2, "prompt": "b", "cut": true}]'
    cards = cards_of("first a, then b", 4, chat)
    assert [(card.at, card.prompt, card.cut) for card in cards] == [(0, "a", False), (2, "b", True)]
    handler.answer = "no cards"
    with pytest.raises(OSError, match="no list of cards"):
        cards_of("first a, then b", 4, chat)
    handler.status = 401
    with pytest.raises(OSError, match="answers 401"):
        expand_with(chat)("red star")
    with pytest.raises(OSError, match="gives no chat answer"):
        expand_with(Chat(url="http://127.0.0.1:9/v1", model="small", timeout=2))("red star")
    with pytest.raises(ValueError, match="http"):
        Chat(url="file:///etc/passwd", model="x")


def test_a_script_becomes_cards():
    cards = cards_of("A red circle moves right, then it grows. Cut to: a blue star spins", 6)
    assert [(card.at, card.prompt, card.cut) for card in cards] == [
        (0, "A red circle moves right", False),
        (2, "a red circle grows", False),
        (4, "a blue star spins", True),
    ]
    cards = cards_of(
        "an orange star spins and then bounces; the camera zooms in. The star grows. It gets dark", 5
    )
    assert [card.prompt for card in cards] == [
        "an orange star spins",
        "an orange star bounces",
        "an orange star while the camera zooms in",
        "an orange star grows",
        "an orange star while it gets dark",
    ]
    with pytest.raises(ValueError, match="script is empty"):
        cards_of(" . ", 6)
