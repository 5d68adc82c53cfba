"""Records what the Python SDK tells its listeners and answers to legacy calls.

    pip install optimizely-sdk==5.7.0
    python3 record.py ../../decision/testdata/worked.json | gzip -9n >calls.ndjson.gz

Each line is one call: its input, what it returned, the events it queued and the
notifications it sent, in order. Uuids and timestamps are left out.
"""
import json
import sys

from optimizely import optimizely
from optimizely.decision.optimizely_decide_option import OptimizelyDecideOption as Option
from optimizely.event.event_factory import EventFactory
from optimizely.helpers import enums
from optimizely.optimizely_user_context import OptimizelyUserContext as Context


class Processor:
    def __init__(self):
        self.events = []

    def process(self, event):
        self.events.append(event)

    def stop(self):
        pass


def visitor(event):
    params = json.loads(json.dumps(EventFactory.create_log_event(event, None).params))
    out = params['visitors'][0]
    for e in out['snapshots'][0]['events']:
        del e['uuid'], e['timestamp']
    return out


def entity(value):
    if value is None:
        return None
    if isinstance(value, dict):
        return {'id': value['id'], 'key': value['key']}
    return {'id': value.id, 'key': value.key}


def strip(log_event):
    out = json.loads(json.dumps(log_event))
    del out['params']['client_name'], out['params']['client_version']
    for v in out['params']['visitors']:
        for e in v['snapshots'][0]['events']:
            del e['uuid'], e['timestamp']
    return out


def record(datafile, call):
    processor, seen = Processor(), []
    client = optimizely.Optimizely(datafile, event_processor=processor)
    center = client.notification_center
    center.add_notification_listener(
        enums.NotificationTypes.DECISION,
        lambda t, user, attributes, info: seen.append(
            {'decision': {'type': t, 'user_id': user, 'attributes': attributes, 'decision_info': info}}))
    center.add_notification_listener(
        enums.NotificationTypes.ACTIVATE,
        lambda experiment, user, attributes, variation, event: seen.append(
            {'activate': {'experiment': entity(experiment), 'user_id': user, 'attributes': attributes,
                          'variation': entity(variation), 'event': strip(event)}}))
    center.add_notification_listener(
        enums.NotificationTypes.TRACK,
        lambda key, user, attributes, tags, event: seen.append(
            {'track': {'event_key': key, 'user_id': user, 'attributes': attributes, 'event_tags': tags,
                       'event': strip(event)}}))
    name, user, attributes = call['call'], call['user'], call.get('attributes')
    if name.startswith('decide') or name == 'track_event':
        context = client.create_user_context(user, attributes)
        if call.get('segments') is not None:
            context.set_qualified_segments(call['segments'])
        for flag, rule, variation in call.get('forced', []):
            context.set_forced_decision(Context.OptimizelyDecisionContext(flag, rule),
                                        Context.OptimizelyForcedDecision(variation))
        options = call.get('options')
        if name == 'decide':
            result = context.decide(call['key'], options).as_json()
        elif name == 'decide_for_keys':
            result = {k: d.as_json() for k, d in context.decide_for_keys(call['keys'], options).items()}
        elif name == 'decide_all':
            result = {k: d.as_json() for k, d in context.decide_all(options).items()}
        else:
            result = context.track_event(call['key'], call.get('tags'))
    elif name == 'track':
        result = client.track(call['key'], user, attributes, call.get('tags'))
    elif name == 'get_enabled_features':
        result = client.get_enabled_features(user, attributes)
    elif name.startswith('get_feature_variable'):
        result = getattr(client, name)(call['key'], call['variable'], user, attributes)
    elif name == 'forced_variation':
        result = []
        for step in call['steps']:
            if step[0] == 'set':
                result.append(client.set_forced_variation(step[1], user, step[2]))
            elif step[0] == 'get':
                result.append(client.get_forced_variation(step[1], user))
            else:
                result.append(client.get_variation(step[1], user, attributes))
    elif name == 'get_optimizely_config':
        result = plain(client.get_optimizely_config())
    else:
        result = getattr(client, name)(call['key'], user, attributes)
    return {**call, 'result': result, 'notifications': seen, 'events': [visitor(e) for e in processor.events]}


def plain(value):
    """Turns the objects of a configuration into what JSON has."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if hasattr(value, '__dict__'):
        return {k: plain(v) for k, v in vars(value).items() if not k.startswith('_')}
    return value


def calls():
    yield {'call': 'get_optimizely_config', 'user': '', 'attributes': None}
    users = [('u1', None, None), ('u1', {'plan': 'pro'}, None), ('u1', None, ['vip']), ('u2', {'plan': 'pro', 'age': 41}, None),
             ('u7', None, None), ('u8', {'plan': 'pro', 'note': None}, None), ('u8', {}, ['vip']), ('wally', None, None)]
    flags = ['main', 'grouped', 'rollout_fr', 'empty', 'nope']
    for user, attributes, segments in users:
        base = {'user': user, 'attributes': attributes, 'segments': segments}
        for flag in flags:
            yield {'call': 'decide', 'key': flag, **base}
        yield {'call': 'decide_all', **base}
        yield {'call': 'decide_all', 'options': [Option.ENABLED_FLAGS_ONLY, Option.EXCLUDE_VARIABLES], **base}
        yield {'call': 'decide_for_keys', 'keys': ['empty', 'main', 'nope', 'main'], 'options': [Option.DISABLE_DECISION_EVENT], **base}
        yield {'call': 'decide', 'key': 'main', 'forced': [['main', None, 'd1on']], **base}
        yield {'call': 'decide', 'key': 'main', 'forced': [['main', 'exp', 'b'], ['main', 'd2', 'd2on']], **base}
        if segments is None:
            for flag in flags:
                yield {'call': 'is_feature_enabled', 'key': flag, **base}
                yield {'call': 'get_all_feature_variables', 'key': flag, **base}
            yield {'call': 'get_enabled_features', **base}
            for experiment in ['exp', 'exp_paused', 'g_a', 'g_b', 'fr', 'everyone', 'nope', '']:
                yield {'call': 'activate', 'key': experiment, **base}
                yield {'call': 'get_variation', 'key': experiment, **base}
            for variable, kind in [('size', 'integer'), ('ratio', 'double'), ('cfg', 'json'), ('label', 'string')]:
                yield {'call': 'get_feature_variable', 'key': 'main', 'variable': variable, **base}
                for asked in ['boolean', 'integer', 'double', 'string', 'json']:
                    yield {'call': 'get_feature_variable_' + asked, 'key': 'main', 'variable': variable, **base}
            yield {'call': 'get_feature_variable_boolean', 'key': 'rollout_fr', 'variable': 'on', **base}
            yield {'call': 'get_feature_variable', 'key': 'main', 'variable': 'nope', **base}
            yield {'call': 'get_feature_variable', 'key': 'nope', 'variable': 'size', **base}
            yield {'call': 'forced_variation', 'steps': [
                ['get', 'exp'], ['set', 'exp', None], ['set', 'exp', 'b'], ['get', 'exp'], ['variation', 'exp'], ['set', 'exp', 'zzz'],
                ['set', 'exp', ''], ['get', 'exp'], ['set', 'nope', 'a'], ['get', 'nope'], ['set', 'exp', 'a'], ['variation', 'exp'],
                ['set', 'exp_paused', 'p'], ['variation', 'exp_paused'], ['set', 'exp', None], ['get', 'exp'], ['variation', 'exp']], **base}
        for tags in [None, {}, {'revenue': 4200, 'value': '12.50', 'category': 'shoes'}, {'revenue': 42.5, 'value': 7, 'x': {'a': [1, None]}}]:
            yield {'call': 'track_event', 'key': 'bought', 'tags': tags, **base}
        yield {'call': 'track_event', 'key': 'nope', 'tags': None, **base}


def main():
    with open(sys.argv[1], encoding='utf-8') as f:
        datafile = json.load(f)
    datafile['events'] = [{'id': '951', 'key': 'bought', 'experimentIds': ['611']}]
    for send in [True, False]:
        datafile['sendFlagDecisions'] = send
        text = json.dumps(datafile)
        for call in calls():
            print(json.dumps({'send_flag_decisions': send, **record(text, call)}, ensure_ascii=False, sort_keys=True))


main()
