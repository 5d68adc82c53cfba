package main

// makeHoldout makes what global and local holdouts have in common.
func (b *builder) makeHoldout() object {
	variations := b.makeVariations(b.between(1, 2), nil)
	for _, v := range variations { // enabled is rare: the SDK has no values then (DC-P5)
		v.(object)["featureEnabled"] = b.chance(4)
		if b.chance(30) {
			delete(v.(object), "featureEnabled")
		}
	}
	first := variations[0].(object)["id"].(string)
	h := object{
		"id": b.id(), "key": b.key("holdout"), "status": "Running", "variations": variations,
		"trafficAllocation": []any{object{"entityId": first, "endOfRange": b.IntN(5000)}},
	}
	if b.chance(20) {
		h["trafficAllocation"] = b.traffic(ids(variations))
	}
	b.loosen(h)
	b.maybe(h, 12, "status", "Draft", "Concluded", "Archived", "running")
	b.address(h)
	return h
}

func (b *builder) makeHoldouts() []any {
	out := []any{}
	for range b.between(1, 3) {
		h := b.makeHoldout()
		b.maybe(h, 55, "excludeTargetedDeliveries", true, true, true, false)
		b.maybe(h, 5, "includedRules", []any{})
		b.maybe(h, 5, "includedFlags", []any{"1"})
		out = append(out, h)
	}
	return out
}

func (b *builder) makeLocalHoldouts() []any {
	out := []any{}
	for range b.between(1, 3) {
		h := b.makeHoldout()
		rules := []any{}
		for _, id := range some(b.random, b.ruleIDs, b.between(0, 4)) {
			rules = append(rules, id)
		}
		if b.chance(20) {
			rules = append(rules, "no-such-rule")
		}
		h["includedRules"] = rules
		b.maybe(h, 4, "includedRules", nil)
		b.maybe(h, 10, "excludeTargetedDeliveries", true)
		out = append(out, h)
	}
	return out
}
