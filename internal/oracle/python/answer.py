"""Answers cases with the official Python SDK, unmodified.

    answer.py [--check]

Each line on stdin is {"datafile": text, "cases": [...]}; each line on stdout answers it with
{"refused": reason} if the SDK does not take the datafile, else {"answers": [...]}, one per case.
--check prints the version of the SDK and ends.

An answer has "decisions" (a list, in the SDK's order), "events" (the requests, in the order sent),
"asked" (what a prediction service would be asked) and, if one was saved, "profile"; or only "raised", when a call raised, with the name of the
exception and of the function that raised it. What JSON can't say, a number that is not finite, is
{"not_finite": text}.
"""

import copy
import json
import math
import sys
import traceback

from optimizely import logger, optimizely, version
from optimizely.cmab import cmab_service
from optimizely.event import event_processor
from optimizely.odp import lru_cache
from optimizely.optimizely_user_context import OptimizelyUserContext


class Dispatcher:
    """Keeps what would be sent."""

    def __init__(self):
        self.sent = []

    def dispatch_event(self, event):
        self.sent.append({"url": event.url, "method": event.http_verb, "body": copy.deepcopy(event.params)})


class Profiles:
    """A user profile service with one profile, which it gives whoever is asked for."""

    def __init__(self):
        self.stored = None
        self.saved = []
        self.lookups = 0

    def lookup(self, user_id):
        self.lookups += 1
        return copy.deepcopy(self.stored)

    def save(self, profile):
        self.saved.append(copy.deepcopy(profile))


class Predictions(cmab_service.DefaultCmabService):
    """The SDK's own service, without its cache, answering from the case."""

    def __init__(self):
        super().__init__(lru_cache.LRUCache(0, 0), None)
        self.answers = {}
        self.asked = []

    def _fetch_decision(self, rule_id, user_id, attributes):
        self.asked.append({"rule_id": rule_id, "user_id": user_id, "attributes": copy.deepcopy(attributes)})
        if rule_id not in self.answers:
            raise ValueError("no prediction")
        return cmab_service.CmabDecision(variation_id=self.answers[rule_id], cmab_uuid="prediction " + rule_id)


class Client:
    def __init__(self, datafile, profiles, default_options):
        self.dispatcher = Dispatcher()
        self.profiles = profiles
        self.predictions = Predictions()
        # One request per event, sent by the call itself.
        forward = event_processor.ForwardingEventProcessor(self.dispatcher, logger.NoOpLogger())
        self.sdk = optimizely.Optimizely(
            datafile=datafile,
            event_processor=forward,
            user_profile_service=profiles,
            logger=logger.NoOpLogger(),
            default_decide_options=default_options,
            cmab_service=self.predictions,
        )

    def answer(self, case):
        self.dispatcher.sent = []
        self.predictions.answers, self.predictions.asked = case.get("predictions", {}), []
        user = self.sdk.create_user_context(case["user_id"], case.get("attributes"))
        if "segments" in case:
            user.set_qualified_segments(case["segments"])
        for f in case.get("forced_decisions", []):
            user.set_forced_decision(
                OptimizelyUserContext.OptimizelyDecisionContext(f["flag_key"], f.get("rule_key")),
                OptimizelyUserContext.OptimizelyForcedDecision(f["variation_key"]),
            )
        if self.profiles:
            self.profiles.stored, self.profiles.saved, self.profiles.lookups = case["user_profile"], [], 0
        forced = case.get("forced_variations", [])
        for f in forced:
            if not self.sdk.set_forced_variation(f["experiment_key"], case["user_id"], f["variation_key"]):
                raise ValueError("the SDK refused a forced variation")
        try:
            decisions = self.decide(user, case)
            for t in case.get("track", []):
                user.track_event(t["event_key"], t.get("tags"))
        finally:
            for f in forced:
                self.sdk.set_forced_variation(f["experiment_key"], case["user_id"], None)
        answer = {
            "decisions": [self.decision(key, d) for key, d in decisions.items()],
            "events": self.dispatcher.sent,
            "asked": self.predictions.asked,
        }
        if self.profiles:
            if self.profiles.lookups > 1 or len(self.profiles.saved) > 1:
                raise ValueError(f"{self.profiles.lookups} lookups and {len(self.profiles.saved)} saves in one call")
            if self.profiles.saved:
                answer["profile"] = self.profiles.saved[0]
        return answer

    @staticmethod
    def decide(user, case):
        options, keys = list(case.get("options", [])), case.get("keys", [])
        call = case["call"]
        if call == "decide":
            return {keys[0]: user.decide(keys[0], options)}
        if call == "decide_for_keys":
            return user.decide_for_keys(keys, options)
        if call == "decide_all":
            return user.decide_all(options)
        return {}

    @staticmethod
    def decision(key, d):
        if d.flag_key != key:
            raise ValueError("a decision stands under another key")
        return {
            "flag_key": d.flag_key,
            "variation_key": d.variation_key,
            "enabled": d.enabled,
            "rule_key": d.rule_key,
            "variables": d.variables,
        }


def finite(value):
    """value with each number that is not finite replaced."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"not_finite": str(value)}
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return value


class Refused(Exception):
    pass


def client(datafile, profiles, default_options):
    try:
        made = Client(datafile, profiles, default_options)
    except Exception as e:
        raise Refused(f"constructor: {type(e).__name__}: {e}") from e
    if not made.sdk.is_valid or made.sdk.config_manager.get_config() is None:
        raise Refused("not valid")
    return made


def answers(batch):
    clients = {}
    out = []
    for case in batch["cases"]:
        # A client for each set of default options: they are given when it is made.
        kind = ("user_profile" in case, tuple(case.get("default_options", [])))
        if kind not in clients:
            clients[kind] = client(batch["datafile"], Profiles() if kind[0] else None, list(kind[1]))
        try:
            out.append(finite(clients[kind].answer(case)))
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)[-1].name
            out.append({"raised": {"exception": type(e).__name__, "text": str(e), "in": where}})
    return out


def main():
    if "--check" in sys.argv[1:]:
        print(version.__version__)
        return
    stdin = open(sys.stdin.fileno(), encoding="utf-8", closefd=False)
    stdout = open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)
    for line in iter(stdin.readline, ""):
        try:
            answer = {"answers": answers(json.loads(line))}
        except Refused as e:
            answer = {"refused": str(e)}
        stdout.write(json.dumps(answer, allow_nan=False))
        stdout.write("\n")
        stdout.flush()


main()
