"""Publishes to a gateway with the CloudEvents SDK: binary, structured, batched. Prints the ids, a line of JSON."""

import json
import sys
import urllib.request
from datetime import datetime, timezone

from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent


def event(number, data, **more):
    attributes = {
        "id": str(number),
        "source": "/clients/python",
        "type": "public.python",
        "specversion": "1.0",
        "subject": "Grüße, \"100 %\"",
        "time": datetime(2026, 1, 31, 9, 5, 0, 250000, tzinfo=timezone.utc),
        "datacontenttype": "application/json",
        "partitionkey": "ada",
        **more,
    }
    return CloudEvent(attributes=attributes, data=data)


def send(message):
    request = urllib.request.Request(sys.argv[1] + "/events", data=message.body, headers=message.headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 202, response.status
        return json.load(response)


binary = send(http.to_binary_event(event(1, {"n": 1})))
again = send(http.to_binary_event(event(1, {"n": 1})))
structured = send(http.to_structured_event(event(2, {"n": 2})))
text = send(http.to_structured_event(event(3, "zwei\nZeilen", datacontenttype="text/plain")))
# The SDK writes no batches; one is a JSON array of what it writes.
events = [event(number, {"n": number}) for number in (4, 5)]
body = b"[" + b",".join(JSONFormat().write(one) for one in events) + b"]"
batch = send(http.HTTPMessage({"content-type": "application/cloudevents-batch+json"}, body))
json.dump([one["id"] for one in [binary, again, structured, text, *batch]], sys.stdout)
