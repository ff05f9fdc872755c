"""A customer's program: makes an endpoint by OpenAI's client, orders a clip, and verifies what it is told by two
libraries. `with_webhooks.py URL TOKEN`, in an environment with `openai` and `standardwebhooks`, and nothing of ours."""

from __future__ import annotations

import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai
import standardwebhooks

TYPES = ["video.completed", "video.failed"]
arrived: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        arrived.put((self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def refusal(call: object, *arguments: object, **named: object) -> openai.APIStatusError:
    try:
        call(*arguments, **named)  # type: ignore[operator]
    except openai.APIStatusError as error:
        return error
    raise AssertionError(f"{call} was not refused")


def main(url: str, token: str) -> None:
    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    hook = f"http://127.0.0.1:{receiver.server_port}/hook"
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token)

    assert client.webhooks.event_types.list().data == TYPES
    made = client.webhooks.create(name="orders", url=hook, event_types=TYPES)
    assert made.object == "webhook_endpoint" and made.signing_secret.startswith("whsec_")
    others = [client.webhooks.create(name=str(number), url=hook, event_types=TYPES[1:]).id for number in range(3)]
    listed = [endpoint.id for endpoint in client.webhooks.list(limit=2)]  # two pages
    assert listed == [*others[::-1], made.id]
    for endpoint in others:
        assert client.webhooks.delete(endpoint).deleted
    assert client.webhooks.retrieve(made.id).signing_secret_hint == made.signing_secret_hint
    assert client.webhooks.update(made.id, name="renamed").name == "renamed"

    result = client.webhooks.test(made.id, event_type="video.failed")
    assert result.success and result.status_code == 204 and result.webhook_endpoint_id == made.id
    sample = verified(client, made.signing_secret)
    assert sample.type == "video.failed"  # type: ignore[attr-defined]

    rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    client.webhooks.test(made.id, event_type="video.completed")
    body, headers = arrived.get(timeout=30)
    for secret in (made.signing_secret, rotated.signing_secret):
        client.webhooks.unwrap(body, headers, secret=secret)
        standardwebhooks.Webhook(secret).verify(body, headers)
    try:
        client.webhooks.unwrap(body.replace(b"video_test", b"video_evil"), headers, secret=rotated.signing_secret)
        raise AssertionError("a forged body was taken")
    except openai.InvalidWebhookSignatureError:
        pass

    video = client.videos.create(prompt="scene 5", seconds="4")
    event = verified(client, rotated.signing_secret)
    assert (event.type, event.data.id) == ("video.completed", video.id)  # type: ignore[attr-defined]
    assert client.videos.download_content(event.data.id).read()[4:8] == b"ftyp"  # type: ignore[attr-defined]

    error = refusal(client.webhooks.retrieve, "we_none")
    assert isinstance(error, openai.NotFoundError) and error.code == "unknown_webhook"
    error = refusal(client.webhooks.create, name="a", url="https://10.0.0.1/", event_types=TYPES)
    assert isinstance(error, openai.BadRequestError) and (error.code, error.param) == ("invalid_value", "url")
    receiver.server_close()
    begun = time.monotonic()
    client.webhooks.update(made.id, url="http://127.0.0.1:9/")
    error = refusal(client.webhooks.test, made.id, event_type="video.failed")
    assert error.code == "webhook_unreachable" and time.monotonic() - begun < 20  # it is not sent again
    print("ok")


def verified(client: openai.OpenAI, secret: str) -> object:
    """The next event, as both libraries take it."""
    body, headers = arrived.get(timeout=60)
    told = standardwebhooks.Webhook(secret).verify(body, headers)
    event = client.webhooks.unwrap(body, headers, secret=secret)
    assert told["id"] == headers["webhook-id"]
    return event


if __name__ == "__main__":
    main(*sys.argv[1:])
