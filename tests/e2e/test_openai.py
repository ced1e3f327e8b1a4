# SPDX-License-Identifier: MIT
"""The official openai client, unchanged, over the Unix socket.

Needs the package from PyPI: `pip install --target BUILD/python openai` (the third argument of this
test names that directory), or wherever Python finds it; without it the test is skipped."""
import importlib
import sys
import unittest

import expertd_test
from expertd_test import Daemon, main

if expertd_test.PYTHON_DIR:
    sys.path.insert(0, expertd_test.PYTHON_DIR)
try:
    import openai
except ImportError as e:
    print(f"skipped: {e}; pip install --target BUILD/python openai")
    sys.exit(expertd_test.SKIPPED)

daemon = client = None


def setUpModule():
    global daemon, client
    daemon = Daemon("model.context_max=512").start()
    # The HTTP library that this version of the client is built on.
    base = openai.DefaultHttpxClient.__mro__[1].__module__.split(".")[0]
    httpx = importlib.import_module(base)
    client = openai.OpenAI(
        base_url="http://localhost/v1", api_key="none", max_retries=0, timeout=300,
        http_client=openai.DefaultHttpxClient(transport=httpx.HTTPTransport(uds=daemon.socket)))


def tearDownModule():
    client.close()
    assert daemon.stop() == 0


QUESTION = [{"role": "user", "content": "Compute 66 - 57 - 8."}]


class Client(unittest.TestCase):
    def test_chat(self):
        r = client.chat.completions.create(model="model", messages=QUESTION, temperature=0)
        self.assertEqual(r.choices[0].message.content, "The answer is 1.")
        self.assertEqual(r.choices[0].finish_reason, "stop")
        self.assertIn("66-57", r.choices[0].message.reasoning_content)
        self.assertEqual(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens)
        self.assertGreater(r.usage.completion_tokens_details.reasoning_tokens, 0)

    def test_chat_stream(self):
        text, reasoning, usage = "", "", None
        for chunk in client.chat.completions.create(
                model="model", messages=QUESTION, temperature=0, stream=True,
                stream_options={"include_usage": True}):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            usage = chunk.usage or usage
        self.assertEqual(text, "The answer is 1.")
        self.assertIn("66-57", reasoning)
        self.assertGreater(usage.completion_tokens, 10)

    def test_stream_left_early(self):
        with client.chat.completions.create(
                model="model", messages=QUESTION, stream=True, max_tokens=400,
                logit_bias={"1": -100}) as stream:
            next(iter(stream))
        daemon.wait_metric("expertd_request_active", 0)

    def test_fields(self):
        r = client.chat.completions.create(
            model="model", messages=QUESTION, n=2, seed=3, temperature=0.7, top_p=0.9,
            max_tokens=12, stop=["zzz"], presence_penalty=0.1, frequency_penalty=0.1,
            logprobs=True, top_logprobs=2, logit_bias={"5": -1}, user="test",
            extra_body={"top_k": 20, "min_p": 0.01})
        self.assertEqual(len(r.choices), 2)
        self.assertEqual(r.choices[1].index, 1)
        self.assertIsNotNone(r.choices[0].logprobs)

    def test_completions(self):
        r = client.completions.create(model="model", prompt=["The answer", "Compute 1"],
                                      max_tokens=5, temperature=0, logprobs=1)
        self.assertEqual(len(r.choices), 2)
        self.assertEqual(len(r.choices[0].logprobs.tokens), len(r.choices[0].logprobs.text_offset))
        text = "".join(c.choices[0].text for c in client.completions.create(
            model="model", prompt="The answer", max_tokens=5, temperature=0, stream=True)
            if c.choices)
        self.assertEqual(text, r.choices[0].text)

    def test_models(self):
        self.assertEqual([m.id for m in client.models.list()], ["model"])
        self.assertEqual(client.models.retrieve("model").id, "model")
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("other")

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as e:
            client.chat.completions.create(model="other", messages=QUESTION)
        self.assertEqual(e.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as e:
            client.chat.completions.create(model="model", messages=QUESTION, temperature=9)
        self.assertEqual(e.exception.param, "temperature")


if __name__ == "__main__":
    main()
