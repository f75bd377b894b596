#!/usr/bin/env python3
"""Publishes with the package mercure-publisher, as its users do.

    mercure_publish.py HUB KEY TOPIC DATA

One line of JSON: the id that the hub gave, and what a key that is not the hub's gets.
"""

import json
import sys

from mercure_publisher import MercureConfig, MercurePublishError, MercurePublisher

hub, key, topic, data = sys.argv[1:]


def publish(key):
    config = MercureConfig(hub_url=hub, publisher_jwt_key=key, publish_topics=["*"])
    with MercurePublisher(config) as publisher:
        return publisher.publish([topic, f"{topic}/alternate"], {"text": data}, private=True, type="note")


try:
    publish("another key, which is not that of the hub")
    refused = None
except MercurePublishError as error:
    refused = error.status_code
print(json.dumps({"id": publish(key), "refused": refused}))
