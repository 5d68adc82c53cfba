package client

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

// A NotificationType is what listeners can be told of.
type NotificationType uint8

// The types of notifications. Source: legacy-api.md section 7.
const (
	ActivateType NotificationType = iota
	DecisionType
	TrackType
	LogEventType
	ConfigUpdateType

	numNotificationTypes = iota
)

// Notifications are the listeners of one client or of several: the SDKs' notification
// centre. Use [NewNotifications], or [Client.Notifications]. Safe for concurrent use.
//
// Listeners are called one after the other in the order they were added, on the
// goroutine of the call that they are told of: a decision waits for its listeners.
// A panic of one is logged and goes to the error handler, both of the client that told of
// it; the others are called all the same. A listener may add and remove listeners, which
// counts from the next notification on. It must not close the client.
// Source: legacy-api.md LG-22, LG-23, pages.md I-9.
type Notifications struct {
	changing sync.Mutex // held by whoever replaces lists
	lastID   int        // guarded by changing
	lists    [numNotificationTypes]atomic.Pointer[[]listener]
}

type listener struct {
	id int
	f  any // func of the type's notification
}

// NewNotifications makes a centre without listeners. Give it to
// [WithNotifications] to hear of the first configuration too.
func NewNotifications() *Notifications { return &Notifications{} }

func (n *Notifications) add(t NotificationType, f any) int {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.lastID++
	list := append(slices.Clip(n.list(t)), listener{n.lastID, f})
	n.lists[t].Store(&list)
	return n.lastID
}

func (n *Notifications) list(t NotificationType) []listener {
	if list := n.lists[t].Load(); list != nil {
		return *list
	}
	return nil
}

// OnDecision adds a listener for decisions of all subtypes. It returns an id for
// [Notifications.Remove]: ids count up from 1 for all types together. A nil
// listener is not added, and its id is -1; so it is with the other On methods.
// Functions can't be compared, so one added twice is called twice.
func (n *Notifications) OnDecision(f func(DecisionNotification)) int {
	if f == nil {
		return -1
	}
	return n.add(DecisionType, f)
}

// OnTrack adds a listener for tracked conversions.
func (n *Notifications) OnTrack(f func(TrackNotification)) int {
	if f == nil {
		return -1
	}
	return n.add(TrackType, f)
}

// OnLogEvent adds a listener for batches of events. It is called once for each,
// before the first attempt to send it, on the goroutine that sends; with an outbox
// concurrently, and again after a restart. An [EventProcessor] of one's own has no
// batches that the client knows of. Source: event-batching.md EB-16.
func (n *Notifications) OnLogEvent(f func(LogEvent)) int {
	if f == nil {
		return -1
	}
	return n.add(LogEventType, f)
}

// OnConfigUpdate adds a listener for datafiles that come into force. It is called
// on the goroutine of the datafile source. Source: config.md CF-19.
func (n *Notifications) OnConfigUpdate(f func(ConfigUpdateNotification)) int {
	if f == nil {
		return -1
	}
	return n.add(ConfigUpdateType, f)
}

// OnActivate adds a listener for impressions, one call each. The SDKs call this
// notification deprecated: a decision's listener learns more.
// Source: legacy-api.md LG-24.
func (n *Notifications) OnActivate(f func(ActivateNotification)) int {
	if f == nil {
		return -1
	}
	return n.add(ActivateType, f)
}

// Remove removes a listener by its id; false if there is none of that id.
func (n *Notifications) Remove(id int) bool {
	n.changing.Lock()
	defer n.changing.Unlock()
	for t := range n.lists {
		list := n.list(NotificationType(t))
		if i := slices.IndexFunc(list, func(l listener) bool { return l.id == id }); i >= 0 {
			list = slices.Delete(slices.Clone(list), i, i+1)
			n.lists[t].Store(&list)
			return true
		}
	}
	return false
}

// Clear removes the listeners of one type.
func (n *Notifications) Clear(t NotificationType) {
	n.changing.Lock()
	defer n.changing.Unlock()
	if t < numNotificationTypes {
		n.lists[t].Store(nil)
	}
}

// ClearAll removes all listeners.
func (n *Notifications) ClearAll() {
	n.changing.Lock()
	defer n.changing.Unlock()
	for t := range n.lists {
		n.lists[t].Store(nil)
	}
}

func (n *Notifications) hasAny(types ...NotificationType) bool {
	for _, t := range types {
		if len(n.list(t)) > 0 {
			return true
		}
	}
	return false
}

// send tells the listeners of a type. The payload is made only if there are any.
func send[T any](c *Client, t NotificationType, payload func() T) {
	list := c.notifications.list(t)
	if len(list) == 0 {
		return
	}
	what := payload()
	for i := range list {
		if f, ok := list[i].f.(func(T)); ok {
			c.guard("notification listener", func() { f(what) })
		}
	}
}

func (c *Client) decided(payload func() DecisionNotification) { send(c, DecisionType, payload) }

// A PanicError reports the panic of a listener or callback, which was swallowed.
// Its text doesn't repeat the value, which may hold what users gave.
type PanicError struct {
	What  string
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("%s panicked with a %T", e.What, e.Value) }

// guard calls somebody else's function, whose panic is its own affair.
func (c *Client) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			c.fail(&PanicError{What: what, Value: r, Stack: debug.Stack()})
		}
	}()
	f()
}

// fail reports an error that no caller gets.
func (c *Client) fail(err error) {
	c.log.Error("client: something failed that no caller is told of", slog.Any("error", err))
	c.handle(err)
}

// handle gives an error to the error handler, whose panic ends here.
func (c *Client) handle(err error) {
	if c.settings.errorHandler == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("client: error handler panicked", slog.String("type", fmt.Sprintf("%T", r)))
		}
	}()
	c.settings.errorHandler(err)
}
