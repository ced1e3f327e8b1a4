# SPDX-License-Identifier: MIT
"""openai_chat.py BASE_URL CA: the openai client, unchanged, over HTTPS; prints what it got as JSON.
OPENAI_API_KEY has the key.  Run in the namespace of the port's clients by test_daemon_net.py."""
import json
import ssl
import sys

try:
    import openai
except ImportError as e:
    print(f"skipped: {e}; pip install --target BUILD/python openai")
    sys.exit(77)

QUESTION = [{"role": "user", "content": "Compute 66 - 57 - 8."}]
base_url, ca = sys.argv[1:]


def client(**options):
    verify = ssl.create_default_context(cafile=ca)
    return openai.OpenAI(base_url=base_url, max_retries=0, timeout=300,
                         http_client=openai.DefaultHttpxClient(verify=verify), **options)


said = {}
with client() as c:
    chat = {"model": "model", "messages": QUESTION, "temperature": 0}
    said["whole"] = c.chat.completions.create(**chat).choices[0].message.content
    said["streamed"] = "".join(choice.delta.content or ""
                               for chunk in c.chat.completions.create(stream=True, **chat)
                               for choice in chunk.choices)
    said["models"] = [m.id for m in c.models.list()]
with client(api_key="sk-wrong") as c:
    try:
        c.models.list()
    except openai.AuthenticationError as e:
        said["wrong_key"] = e.status_code
print(json.dumps(said))
