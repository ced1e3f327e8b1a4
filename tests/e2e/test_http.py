# SPDX-License-Identifier: MIT
"""HTTP decisions of the interface, line by line: errors and their objects, strict HTTP/1.1, pipelining,
100-continue, HEAD and OPTIONS, HTTP/1.0, half-closed clients, tokenize and friends."""
import json
import threading
import time
import unittest

from expertd_test import Daemon, main, post_bytes, read_all, statuses, text_of

daemon = None
CHAT = "/v1/chat/completions"


def setUpModule():
    global daemon
    daemon = Daemon("model.context_max=512", "limits.body_bytes_max=64K",
                    "limits.header_timeout=1s", "limits.body_timeout=1s",
                    "limits.idle_timeout=3s", "limits.keep_alive=200ms").start()


def tearDownModule():
    assert daemon.stop() == 0


def chat_body(**fields):
    return {"model": "model", "messages": [{"role": "user", "content": "1 + 1?"}],
            "max_tokens": 3, "temperature": 0, **fields}


class Errors(unittest.TestCase):
    def check(self, answer, status, code=None, param=None, words=""):
        self.assertEqual(answer.status, status, answer.body)
        error = answer.error
        # Always all four keys, code a string or null.
        self.assertEqual(sorted(error), ["code", "message", "param", "type"])
        self.assertIsInstance(error["message"], str)
        self.assertTrue(error["code"] is None or isinstance(error["code"], str))
        self.assertEqual(answer.headers["content-type"], "application/json")
        if code is not None:
            self.assertEqual(error["code"], code)
        if param is not None:
            self.assertEqual(error["param"], param)
        self.assertIn(words, error["message"])

    def test_fields(self):
        for field, value in [
                ("temperature", 2.1), ("temperature", -0.1), ("temperature", "hot"),
                ("top_p", 1.1), ("top_p", -1), ("min_p", 2), ("top_k", -5), ("top_k", 1.5),
                ("frequency_penalty", 2.5), ("presence_penalty", -2.5), ("repetition_penalty", 0),
                ("logit_bias", {"1": 101}), ("logit_bias", {"x": 1}), ("logit_bias", {"1024": 1}),
                ("logit_bias", []), ("n", 0), ("n", 129), ("n", "2"), ("max_tokens", 0),
                ("max_tokens", -1), ("max_tokens", 2.5), ("max_completion_tokens", 0),
                ("seed", "x"), ("seed", 1.5), ("stop", 5), ("stop", ["a"] * 17),
                ("stop", ["a", 1]), ("stream", "yes"), ("logprobs", 3), ("top_logprobs", 2),
                ("stream_options", 1), ("messages", []), ("messages", "x"), ("messages", None),
                ("response_format", {"type": "json_object"})]:
            with self.subTest(field=field, value=value):
                a = daemon.post(CHAT, chat_body(**{field: value}))
                self.assertEqual(a.status, 400, a.body)
                self.assertTrue(a.error["param"].startswith(field), a.body)
                self.assertEqual(a.error["type"], "invalid_request_error")

    def test_messages(self):
        for messages, param in [
                ([{"role": "robot", "content": "x"}], "messages[0].role"),
                ([{"content": "x"}], "messages[0].role"),
                ([{"role": "user"}], "messages[0].content"),
                ([{"role": "user", "content": 5}], "messages[0].content"),
                ([{"role": "user", "content": "x"}, 7], "messages[1]")]:
            with self.subTest(messages=messages):
                a = daemon.post(CHAT, chat_body(messages=messages))
                self.assertEqual(a.status, 400, a.body)
                self.assertTrue(a.error["param"].startswith(param), a.body)

    def test_prompt_too_long(self):
        a = daemon.post(CHAT, chat_body(messages=[{"role": "user", "content": "1 " * 2000}]))
        self.check(a, 400, "context_length_exceeded")
        self.assertIn("512", a.error["message"])
        prompt = "1 " * 2000
        n = len(daemon.post("/tokenize", {"content": prompt, "add_special": True}).json["tokens"])
        a = daemon.post("/v1/completions", {"model": "model", "prompt": prompt})
        self.check(a, 400, "context_length_exceeded", words=str(n))
        # A stream is refused with a status too.
        a = daemon.post(CHAT, chat_body(stream=True,
                                        messages=[{"role": "user", "content": "1 " * 2000}]))
        self.check(a, 400, "context_length_exceeded")

    def test_model(self):
        self.check(daemon.post(CHAT, chat_body(model="other")), 404, "model_not_found", "model",
                   '"model"' if False else "model")
        a = daemon.post(CHAT, chat_body(model=None))
        self.assertEqual((a.status, a.error["param"]), (400, "model"))
        body = chat_body()
        del body["model"]
        self.check(daemon.post(CHAT, body), 400, "missing_required_parameter", "model")
        self.check(daemon.get("/v1/models/other"), 404, "model_not_found")
        self.assertEqual(daemon.get("/v1/models/model").json["id"], "model")

    def test_paths(self):
        self.check(daemon.get("/nowhere"), 404)
        self.check(daemon.post("/v1/chat", {}), 404)
        for method, path, allow in [("GET", CHAT, "POST"), ("DELETE", CHAT, "POST"),
                                    ("POST", "/v1/models", "GET"), ("PUT", "/health", "GET")]:
            a = daemon.request(method, path, body={} if method != "GET" else None)
            self.check(a, 405)
            self.assertIn(allow, a.headers["allow"])

    def test_sizes(self):
        self.check(daemon.post(CHAT, b'{"x":"' + b"y" * 70000 + b'"}'), 413)
        self.check(daemon.get("/" + "x" * 9000), 414)
        self.check(daemon.get("/health", headers={"X-Long": "y" * 66000}), 431)
        self.check(daemon.get("/health", headers={f"X-{i}": "y" for i in range(130)}), 431)

    def test_content_type(self):
        for kind in ("text/plain", "application/x-www-form-urlencoded",
                     "application/json; charset=latin-1"):
            a = daemon.post(CHAT, json.dumps(chat_body()), headers={"Content-Type": kind})
            self.check(a, 415)
        a = daemon.post(CHAT, json.dumps(chat_body()),
                        headers={"Content-Type": "application/json; charset=utf-8"})
        self.assertEqual(a.status, 200)

    def test_json(self):
        for body in (b"", b"{", b"[]", b"null", b'"x"', b'{"model":"model"} x', b'{"a":1,"a":2}',
                     b"[" * 100000, b'{"model": "\xff"}', b'{"model": "\xed\xa0\x80"}',
                     b'{"seed": 99999999999999999999}', b'{"model": "a\\u0000b"}', b'{"model": "\\ud800"}'):
            with self.subTest(body=body[:20]):
                a = daemon.post(CHAT, body)
                self.assertIn(a.status, (400, 413))
                self.assertIn("error", a.json)

    def test_connection_survives(self):
        # After a 4xx whose body was read the connection stays usable; also after a stream.
        c = daemon.connection()
        for method, path, body in [("POST", CHAT, {}), ("GET", "/nowhere", None),
                                   ("POST", "/nowhere", {"x": 1}), ("GET", CHAT, None),
                                   ("POST", CHAT, b"not json"),
                                   ("POST", CHAT, chat_body(stream=True)),
                                   ("POST", CHAT, chat_body(temperature=9))]:
            daemon.request(method, path, body=body, connection=c)
            self.assertIsNotNone(c.sock, f"{method} {path} closed")
        self.assertEqual(daemon.get("/health", connection=c).status, 200)
        c.close()


class Strict(unittest.TestCase):
    def refused(self, raw, status=400):
        got = statuses(daemon.raw_answers(raw))
        self.assertEqual(got, [status])

    def test_host(self):
        self.refused(b"GET /health HTTP/1.1\r\n\r\n")
        self.refused(b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        got = daemon.raw_answers(b"GET /health HTTP/1.0\r\n\r\n")
        self.assertEqual(statuses(got), [200])

    def test_smuggling(self):
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        after = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        for fields in (b"Content-Length: 2\r\nContent-Length: 3\r\n",
                       b"Content-Length: 2\r\nContent-Length: 2\r\n",
                       b"Content-Length: 2, 2\r\n",
                       b"Content-Length: +2\r\n",
                       b"Content-Length: -2\r\n",
                       b"Content-Length: 0x2\r\n",
                       b"Content-Length: 99999999999999999999999\r\n",
                       b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                       b"Transfer-Encoding: chunked, chunked\r\n",
                       b"Transfer-Encoding: xchunked\r\n",
                       b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n",
                       b"Transfer-Encoding : chunked\r\n",
                       b"Content-Length: 2\r\nX: y\r\n folded\r\n"):
            with self.subTest(fields=fields):
                got = statuses(daemon.raw_answers(head + fields + b"\r\n{}" + after))
                # A refusal, and nothing behind a doubtful length is taken for a request.
                self.assertIn(got[0], (400, 413, 501))
                self.assertTrue(len(got) == 1 or b"folded" in fields, got)

    def test_nonsense(self):
        for raw in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4 + b"\r\n\r\n",
                    b"GET\r\n\r\n", b"GET /health\r\n\r\n", b"GET /health HTTP/2.0\r\n\r\n",
                    b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"GET /health HTTP/1.1\r\nHost x\r\n\r\n",
                    b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n"):
            with self.subTest(raw=raw[:20]):
                got = statuses(daemon.raw_answers(raw + b"", shut=True))
                self.assertTrue(not got or got[0] >= 400, got)
        self.assertEqual(daemon.get("/health").status, 200)

    def test_absolute_form(self):
        raw = b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self.assertEqual(statuses(daemon.raw_answers(raw)), [200])

    def test_chunked_in(self):
        body = json.dumps(chat_body()).encode()
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7])
                          for i in range(0, len(body), 7)) + b"0\r\n\r\n"
        head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertEqual(statuses(daemon.raw_answers(head + chunks)), [200])
        # Byte by byte.
        with daemon.raw() as s:
            for i in range(len(head + chunks)):
                s.sendall((head + chunks)[i:i + 1])
            self.assertEqual(statuses(read_all(s)), [200])

    def test_pipelining(self):
        # Every byte is kept, answers come in order.
        raw = b"".join([
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
            post_bytes(CHAT, chat_body()),
            b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
            post_bytes(CHAT, chat_body(stream=True)),
            post_bytes("/tokenize", {"content": "abc"}),
            post_bytes(CHAT, chat_body(temperature=9)),
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])  # after close: not answered
        got = daemon.raw_answers(raw)
        self.assertEqual(statuses(got), [200, 200, 404, 200, 200, 400, 200])
        # And cut anywhere.
        with daemon.raw() as s:
            for i in range(0, len(raw), 13):
                s.sendall(raw[i:i + 13])
                time.sleep(0.001)
            self.assertEqual(statuses(read_all(s)), [200, 200, 404, 200, 200, 400, 200])

    def test_pipelining_unread(self):
        """who asks on and on and reads nothing is not read either, and gets every answer later"""
        one = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
        sent = 0
        with daemon.raw() as s:
            s.settimeout(1)
            with self.assertRaises(TimeoutError):
                while sent < 64 << 20:
                    sent += s.send(one * 1000)
            s.settimeout(None)
            rest = one[len(one) - -sent % len(one):] if sent % len(one) else b""
            last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            sender = threading.Thread(target=s.sendall, args=(rest + last,))
            sender.start()
            got = statuses(read_all(s))
            sender.join()
        self.assertEqual(got, [404] * ((sent + len(rest)) // len(one) + 1))

    def test_expect_continue(self):
        body = json.dumps(chat_body()).encode()
        head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body))
        with daemon.raw() as s:
            s.sendall(head)
            first = s.recv(1000)
            self.assertEqual(first, b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(body)
            self.assertEqual(statuses(read_all(s)), [200])
        # Refused before the body is sent.
        with daemon.raw() as s:
            s.sendall(head.replace(CHAT.encode(), b"/nowhere"))
            self.assertEqual(statuses(read_all(s)), [404])

    def test_head(self):
        a = daemon.request("HEAD", "/health")
        self.assertEqual((a.status, a.body), (200, b""))
        self.assertEqual(int(a.headers["content-length"]), len(daemon.get("/health").body))

    def test_options(self):
        a = daemon.request("OPTIONS", CHAT)
        self.assertIn(a.status, (200, 204))
        self.assertIn("POST", a.headers["allow"])
        self.assertEqual(daemon.request("OPTIONS", "*").status // 100, 2)

    def test_http10(self):
        # No chunks; the connection ends the body.
        got = daemon.raw_answers(post_bytes(CHAT, chat_body(stream=True), version="1.0"))
        self.assertNotIn(b"chunked", got.lower())
        head, _, body = got.partition(b"\r\n\r\n")
        self.assertTrue(body.endswith(b"data: [DONE]\n\n"), body[-40:])
        got = daemon.raw_answers(post_bytes(CHAT, chat_body(), version="1.0"))
        json.loads(got.partition(b"\r\n\r\n")[2])

    def test_half_closed(self):
        got = daemon.raw_answers(post_bytes(CHAT, chat_body()), shut=True)
        self.assertEqual(statuses(got), [200])
        got = daemon.raw_answers(post_bytes(CHAT, chat_body(stream=True)), shut=True)
        self.assertIn(b"[DONE]", got)
        # Several pipelined, then shut.
        got = daemon.raw_answers(post_bytes(CHAT, chat_body()) * 3, shut=True)
        self.assertEqual(statuses(got), [200, 200, 200])
        # In the middle of a request there is nothing to answer.
        got = daemon.raw_answers(post_bytes(CHAT, chat_body())[:-5], shut=True)
        self.assertNotIn(200, statuses(got))

    def test_timeouts(self):
        with daemon.raw() as s:  # head
            s.sendall(b"GET /health HTTP/1.1\r\nHo")
            self.assertEqual(statuses(read_all(s)), [408])
        with daemon.raw() as s:  # body
            s.sendall(post_bytes(CHAT, chat_body())[:-5])
            self.assertEqual(statuses(read_all(s)), [408])
        with daemon.raw() as s:  # idle, from the start and after an answer
            self.assertEqual(read_all(s), b"")
        with daemon.raw() as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(statuses(read_all(s)), [200])
        # A dripping head does not buy time.
        with daemon.raw() as s:
            start = time.monotonic()
            try:
                for c in b"GET /health HTTP/1.1\r\nX: " + b"y" * 10000:
                    s.sendall(bytes([c]))
                    time.sleep(0.05)
                    if time.monotonic() - start > 60:
                        self.fail("still open")
            except (BrokenPipeError, ConnectionResetError):
                pass


class Streams(unittest.TestCase):
    def test_keep_alive(self):
        # While nothing else is sent, a comment every now and then: queued behind others.
        raw = post_bytes(CHAT, chat_body(stream=True, max_tokens=400, n=24,
                                         logit_bias={"1": -100}))
        with daemon.raw() as busy:
            busy.sendall(raw)
            busy.recv(1)
            got = daemon.post(CHAT, chat_body(stream=True, max_tokens=3)).body
            self.assertIn(b": keep-alive\n", got)
            self.assertTrue(got.rstrip().endswith(b"data: [DONE]"))

    def test_disconnect(self):
        # A client that closes, in a stream or not, frees its place.
        for stream in (True, False):
            before = daemon.metric('expertd_request_finished{reason="cancelled"}')
            s = daemon.raw()
            s.sendall(post_bytes(CHAT, chat_body(stream=stream, max_tokens=480,
                                                 logit_bias={"1": -100})))
            daemon.wait_metric("expertd_sequence_running", 1)
            s.close()
            daemon.wait_metric("expertd_sequence_running", 0)
            daemon.wait_metric("expertd_request_active", 0)
            self.assertEqual(daemon.metric('expertd_request_finished{reason="cancelled"}'),
                             before + 1)
            self.assertEqual(daemon.metric("expertd_kv_token_free"), 8 * 512)

    def test_many_choices_leave_room(self):
        with daemon.raw() as s:
            s.sendall(post_bytes(CHAT, chat_body(max_tokens=300, n=100, logit_bias={"1": -100})))
            daemon.wait_metric("expertd_sequence_running", 8)
            self.assertEqual(daemon.post(CHAT, chat_body()).status, 200)
            self.assertGreater(daemon.metric("expertd_sequence_waiting"), 50)

    def test_disconnect_while_waiting(self):
        raw = post_bytes(CHAT, chat_body(max_tokens=400, n=8, logit_bias={"1": -100}))
        first, second = daemon.raw(), daemon.raw()
        first.sendall(raw)
        daemon.wait_metric("expertd_sequence_running", 8)
        second.sendall(raw)
        daemon.wait_metric("expertd_sequence_waiting", 8)
        second.close()
        daemon.wait_metric("expertd_sequence_waiting", 0)
        first.close()
        daemon.wait_metric("expertd_request_active", 0)


class Others(unittest.TestCase):
    def test_models(self):
        j = daemon.get("/v1/models").json
        self.assertEqual(j["object"], "list")
        (m,) = j["data"]
        self.assertEqual((m["id"], m["object"]), ("model", "model"))
        self.assertEqual(m["meta"]["n_vocab"], 1024)

    def test_health(self):
        for path in ("/health", "/v1/health"):
            a = daemon.get(path)
            self.assertEqual((a.status, a.json["status"]), (200, "ok"))

    def test_metrics(self):
        daemon.post(CHAT, chat_body())
        a = daemon.get("/metrics")
        self.assertTrue(a.headers["content-type"].startswith("text/plain; version=0.0.4"))
        kinds, names = {}, set()
        for line in a.body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.assertNotIn(name, kinds)  # rows of one name stand together
                kinds[name] = kind
            elif not line.startswith("#"):
                name = line.split("{")[0].split()[0]
                names.add(name)
                float(line.rsplit(" ", 1)[1])
                self.assertTrue(name.startswith("expertd_"))
        for name in ("prompt_token_computed", "prompt_token_cached", "generated_token"):
            self.assertEqual(kinds["expertd_" + name], "counter")
        self.assertEqual(kinds["expertd_first_token_seconds"], "histogram")
        before = daemon.metric("expertd_generated_token")
        prompts = daemon.metric("expertd_prompt_token_computed")
        usage = daemon.post(CHAT, chat_body()).json["usage"]
        self.assertEqual(daemon.metric("expertd_generated_token"),
                         before + usage["completion_tokens"])
        self.assertEqual(daemon.metric("expertd_prompt_token_computed"),
                         prompts + usage["prompt_tokens"])

    def test_tokenize(self):
        text = "Grüße, 世界! 12345 🙂"
        ids = daemon.post("/tokenize", {"content": text}).json["tokens"]
        self.assertEqual(daemon.post("/detokenize", {"tokens": ids}).json["content"], text)
        self.assertEqual(daemon.post("/tokenize", {"content": text, "add_special": True})
                         .json["tokens"], [0] + ids)
        pieces = daemon.post("/tokenize", {"content": text, "with_pieces": True}).json["tokens"]
        self.assertEqual([p["id"] for p in pieces], ids)
        raw = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"])
                       for p in pieces)
        self.assertEqual(raw.decode(), text)
        special = daemon.post("/tokenize", {"content": "<｜User｜>"}).json["tokens"]
        self.assertEqual(len(special), 1)
        self.assertGreater(len(daemon.post("/tokenize", {"content": "<｜User｜>",
                                                         "parse_special": False})
                               .json["tokens"]), 1)
        self.assertEqual(daemon.post("/tokenize", {"content": ""}).json["tokens"], [])
        self.assertEqual(daemon.post("/detokenize", {"tokens": []}).json["content"], "")
        self.assertEqual(daemon.post("/detokenize", {"tokens": [1024]}).status, 400)
        self.assertEqual(daemon.post("/tokenize", {}).status, 400)

    def test_apply_template(self):
        messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
        prompt = daemon.post("/apply-template", {"messages": messages}).json["prompt"]
        self.assertEqual(prompt, "<｜begin▁of▁sentence｜>S<｜User｜>U<｜Assistant｜><think>\n")
        ids = daemon.post("/tokenize", {"content": prompt}).json["tokens"]
        a = daemon.post(CHAT, chat_body(messages=messages))
        self.assertEqual(a.json["usage"]["prompt_tokens"], len(ids))
        self.assertEqual(daemon.post("/apply-template", {"messages": []}).status, 400)

    def test_many_at_once(self):
        # Everything at once, on many connections: all are answered, in whole.
        results = []

        def work(i):
            a = daemon.post(CHAT, chat_body(stream=bool(i % 2), max_tokens=20, seed=i))
            text = text_of(a.events, "reasoning_content") if i % 2 else \
                a.json["choices"][0]["message"]["reasoning_content"]
            results.append((a.status, text))
        threads = [threading.Thread(target=work, args=(i,)) for i in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(results), 40)
        self.assertEqual({r[0] for r in results}, {200})
        self.assertEqual(len({r[1] for r in results}), 1)  # greedy: all the same


if __name__ == "__main__":
    main()
