"""A small program on the official Python SDK, unmodified, with an emulator as its cloud.

    client.py URLS USERS TOKEN

URLS is the JSON of the emulator's addresses. It fetches the datafile (with the token, if it isn't empty), and for each of
so many users fetches segments, decides all flags, tracks a conversion and sends an ODP event. It prints the decisions as JSON.
"""

import json
import sys
from urllib.parse import urlsplit, urlunsplit

from optimizely import config_manager, event_dispatcher, logger, optimizely
from optimizely.helpers.sdk_settings import OptimizelySdkSettings


class Dispatcher:
    """The SDK's own dispatcher; only the host is another."""

    def __init__(self, base):
        self.base = urlsplit(base)

    def dispatch_event(self, event):
        url = urlsplit(event.url)
        event.url = urlunsplit((self.base.scheme, self.base.netloc, url.path, url.query, url.fragment))
        event_dispatcher.EventDispatcher.dispatch_event(event)


def main():
    urls, users, token = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    options = {"sdk_key": urls["sdk_key"], "update_interval": 1, "logger": logger.SimpleLogger(min_level=30)}
    if token:
        manager = config_manager.AuthDatafilePollingConfigManager(token, url_template=urls["auth_datafile"], **options)
    else:
        manager = config_manager.PollingConfigManager(url_template=urls["datafile"], **options)
    client = optimizely.Optimizely(
        config_manager=manager,
        logger=logger.SimpleLogger(min_level=30),
        event_dispatcher=Dispatcher(urls["base"]),
        event_processor_options={"batch_size": 10, "flush_interval": 60},
        settings=OptimizelySdkSettings(cmab_prediction_endpoint=urls["predict"]),
    )
    found = {}
    for i in range(users):
        attributes = {"age": 20 + i % 50}
        if i % 2:
            attributes["plan"] = "gold"
        user = client.create_user_context(f"user-{i}", attributes)
        fetched = user.fetch_qualified_segments()
        decisions = {
            key: {"variation": d.variation_key, "enabled": d.enabled, "rule": d.rule_key, "variables": d.variables}
            for key, d in user.decide_all().items()
        }
        user.track_event("purchase", {"revenue": 100 + i, "value": 1.5, "category": "shoes"})
        client.send_odp_event("viewed", {"fs_user_id": f"user-{i}"}, "fullstack", {"page": i})
        found[f"user-{i}"] = {"fetched": fetched, "segments": user.get_qualified_segments(), "decisions": decisions}
    client.close()
    json.dump(found, sys.stdout)


main()
