// A counter that survives its own replacement, with nothing but LISTEN_FDS and docs/srp.md.
//
// Each client that connects gets the next number. An upgrade hands the count to the next process, which may be written
// in another language.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const magic = 0xAE7E2024

const (
	hello     = 0x01
	welcome   = 0x10
	prepare   = 0x11
	offer     = 0x12
	part      = 0x13
	chunk     = 0x14
	end       = 0x16
	prepared  = 0x17
	commit    = 0x18
	installed = 0x19
	release   = 0x1a
	ready     = 0x1b
	done      = 0x1c
	abort     = 0x1d
	resume    = 0x1e
	cold      = 0x1f
)

type object = map[string]any

func send(w io.Writer, kind byte, payload []byte) {
	frame := make([]byte, 12, 12+len(payload))
	binary.BigEndian.PutUint32(frame[0:], uint32(8+len(payload)))
	binary.BigEndian.PutUint32(frame[4:], magic)
	frame[8], frame[9] = 2, kind
	if _, err := w.Write(append(frame, payload...)); err != nil {
		fail("the broker is gone")
	}
}

func say(w io.Writer, kind byte, message object) {
	payload, _ := json.Marshal(message)
	send(w, kind, payload)
}

func read(r io.Reader) (byte, []byte, error) {
	header := make([]byte, 12)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header) - 8
	if binary.BigEndian.Uint32(header[4:]) != magic || header[8] != 2 || size > 262144 {
		return 0, nil, fmt.Errorf("not a frame of version 2")
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(r, payload)
	return header[9], payload, err
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(7)
}

// counter serves while it owns. While it is locked, the process stands still.
type counter struct {
	sync.Mutex
	count    int
	owner    bool
	retired  bool
	listener net.Listener
}

func (c *counter) serve() {
	for {
		connection, err := c.listener.Accept()
		if err != nil {
			return // this process has retired
		}
		c.Lock()
		retired := c.retired
		if !retired {
			c.count++
			fmt.Fprintf(connection, "%d go\n", c.count)
		}
		c.Unlock()
		if retired {
			c.passOn(connection)
		}
		connection.Close()
	}
}

// passOn connects clients that were accepted while this process stood still to the successor, which alone listens now.
func (c *counter) passOn(connection net.Conn) {
	if onward, err := net.Dial(c.listener.Addr().Network(), c.listener.Addr().String()); err == nil {
		io.Copy(connection, onward)
		onward.Close()
	}
}

// export returns one part of state: a manifest, then the values.
func (c *counter) export() (manifest int, data []byte) {
	value, _ := json.Marshal(c.count)
	head, _ := json.Marshal(object{"set": object{"count": []any{0, len(value), "json"}}, "drop": []string{}})
	return len(head), append(head, value...)
}

func (c *counter) load(data []byte, manifest int, sum string) error {
	found := sha256.Sum256(data)
	if hex.EncodeToString(found[:]) != sum {
		return fmt.Errorf("corrupt")
	}
	var head struct{ Set map[string][]any }
	if err := json.Unmarshal(data[:manifest], &head); err != nil {
		return fmt.Errorf("corrupt")
	}
	where, known := head.Set["count"]
	if !known {
		return nil
	}
	from, size := manifest+int(where[0].(float64)), int(where[1].(float64))
	return json.Unmarshal(data[from:from+size], &c.count)
}

func listen() net.Listener {
	if os.Getenv("LISTEN_PID") == fmt.Sprint(os.Getpid()) {
		listener, err := net.FileListener(os.NewFile(3, "listener"))
		if err == nil {
			return listener
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		fail(err.Error())
	}
	return listener
}

func main() {
	me := &counter{listener: listen()}
	path := os.Getenv("AETERNA_STATE_SOCK")
	if path == "" {
		me.serve()
		return
	}
	broker, err := net.Dial("unix", strings.Replace(path, "@", "\x00", 1))
	if err != nil {
		fail(err.Error())
	}
	say(broker, hello, object{"token": os.Getenv("AETERNA_TOKEN"), "schema": "counter", "version": 1, "fds": false})
	me.converse(broker)
}

func (c *counter) converse(broker net.Conn) {
	var coming struct {
		Session, Size, Manifest int
		Sha256                  string
		Reason                  string
	}
	var data bytes.Buffer
	frozen := false
	thaw := func() {
		if frozen {
			frozen = false
			c.Unlock()
		}
	}
	for {
		kind, payload, err := read(broker)
		if err != nil {
			if c.owner { // the broker is gone: the owner goes on serving
				thaw()
				for {
					time.Sleep(time.Hour)
				}
			}
			fail("the broker is gone before this process owned anything")
		}
		if kind != chunk {
			json.Unmarshal(payload, &coming)
		}
		session := object{"session": coming.Session}
		switch kind {
		case part:
			data.Reset()
		case chunk:
			data.Write(payload)
			if data.Len() == coming.Size {
				if err := c.load(data.Bytes(), coming.Manifest, coming.Sha256); err != nil {
					say(broker, abort, object{"session": coming.Session, "reason": "corrupt", "text": err.Error()})
				}
			}
		case end, cold:
			say(broker, prepared, session)
		case commit:
			say(broker, installed, session)
		case release:
			c.owner = true
			go c.serve()
			say(broker, ready, session)
		case prepare:
			c.Lock()
			frozen = true
			manifest, state := c.export()
			sum := sha256.Sum256(state)
			say(broker, offer, object{"session": coming.Session, "schema": "counter", "version": 1})
			say(broker, part, object{"session": coming.Session, "size": len(state), "manifest": manifest,
				"sha256": hex.EncodeToString(sum[:]), "memfd": false})
			send(broker, chunk, state)
			say(broker, end, object{"session": coming.Session, "parts": 1, "connections": 0})
		case resume:
			thaw()
		case abort:
			if !c.owner {
				fail("given up: " + coming.Reason)
			}
			thaw()
		case done:
			c.retired = true
			c.listener.Close() // the successor accepts from the queue
			thaw()
		}
	}
}
