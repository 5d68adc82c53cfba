package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A process is one `processor run`.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{} // closed when it has ended, and err is what Wait said; never sent to
	err   error

	continueAt time.Time // stopped until then; zero: it is not
	toldAt     time.Time // it was told to end then; zero: it wasn't
}

func (p *process) isStopped() bool { return !p.continueAt.IsZero() }
func (p *process) isTold() bool    { return !p.toldAt.IsZero() }

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// hasWorked tells whether it had what it waits for at the start. One that is told to
// end before, while the broker is away, has failed, and says so with its exit code.
func (p *process) hasWorked() bool {
	text, err := os.ReadFile(p.log.Name())
	return err != nil || bytes.Contains(text, []byte(`msg="topics found"`))
}

// A fleet is all processes, of one goroutine, which calls reap often.
type fleet struct {
	binary, config, folder string
	grace                  time.Duration // for one that was told to end

	all     []*process // those that have not been reaped
	started int

	kills, stops, drains int
	oddities             []string // ends that nobody has asked for
}

// start starts one more. Its log is a file in the folder.
func (f *fleet) start() error {
	f.started++
	p := &process{name: fmt.Sprintf("processor-%03d", f.started), ended: make(chan struct{})}
	log, err := os.Create(filepath.Join(f.folder, p.name+".log"))
	if err != nil {
		return err
	}
	p.log = log
	p.cmd = exec.Command(f.binary, "run", "-c", f.config)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A group of its own: Ctrl-C is for us, and we end it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	f.all = append(f.all, p)
	return nil
}

// able are those that work: neither stopped nor told to end.
func (f *fleet) able() (able []*process) {
	for _, p := range f.all {
		if !p.isStopped() && !p.isTold() && !p.hasEnded() {
			able = append(able, p)
		}
	}
	return able
}

// members are those that are not told to end.
func (f *fleet) members() (n int) {
	for _, p := range f.all {
		if !p.isTold() && !p.hasEnded() {
			n++
		}
	}
	return n
}

func (f *fleet) kill(p *process) {
	if p.hasEnded() {
		return // by itself, which reap will see
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	f.kills++
	f.remove(p)
}

func (f *fleet) stop(p *process, until time.Time) {
	if p.cmd.Process.Signal(syscall.SIGSTOP) == nil {
		p.continueAt = until
		f.stops++
	}
}

// resume continues those whose time has come; all of them with the zero time.
func (f *fleet) resume(now time.Time) {
	for _, p := range f.all {
		if p.isStopped() && (now.IsZero() || now.After(p.continueAt)) {
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			p.continueAt = time.Time{}
		}
	}
}

// tell tells one to end in good order.
func (f *fleet) tell(p *process, now time.Time) {
	if p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		p.toldAt = now
		f.drains++
	}
}

// reap takes out those that have ended, and notes those that shouldn't have, or did
// not although they were told.
func (f *fleet) reap(now time.Time) {
	for _, p := range append([]*process(nil), f.all...) {
		switch {
		case p.hasEnded() && !p.isTold():
			f.odd("%s ended by itself: %v", p.name, p.err)
		case p.hasEnded() && p.err != nil && p.hasWorked():
			f.odd("%s was told to end, and did so with %v", p.name, p.err)
		case p.hasEnded():
		case p.isTold() && now.Sub(p.toldAt) > f.grace:
			f.odd("%s was told to end, and had not after %s", p.name, f.grace)
			_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines, into its log
			<-p.ended
		default:
			continue
		}
		f.remove(p)
	}
}

func (f *fleet) odd(format string, args ...any) {
	f.oddities = append(f.oddities, fmt.Sprintf(format, args...))
}

func (f *fleet) remove(p *process) {
	_ = p.log.Close()
	for i := range f.all {
		if f.all[i] == p {
			f.all = append(f.all[:i], f.all[i+1:]...)
			return
		}
	}
}

// abandon kills whatever is left.
func (f *fleet) abandon() {
	for len(f.all) > 0 {
		p := f.all[0]
		_ = p.cmd.Process.Kill()
		<-p.ended
		f.remove(p)
	}
}

// joins counts how often a process of the fleet has become a member of a group's
// generation, by their logs.
func (f *fleet) joins() (n int) {
	logs, _ := filepath.Glob(filepath.Join(f.folder, "processor-*.log")) // the pattern is well-formed
	for _, name := range logs {
		if text, err := os.ReadFile(name); err == nil {
			n += bytes.Count(text, []byte(`msg="joined the group`))
		}
	}
	return n
}
