package kafkago

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"sortition/pipeline"
)

// recordBatch encodes outputs as one record batch, with the length before it that a
// produce request wants. It is used by one goroutine and can be used again.
//
// kafka-go would do it too, but in pieces of at most 32 bytes, each through several
// writers, and with checksums inside of compressed data although the batch has one.
//
// Source: Apache Kafka, DefaultRecordBatch and DefaultRecord (format 2).
type recordBatch struct {
	codec *codec
	now   int64 // of outputs without a time

	plain      []byte // records, if they are to be compressed
	out        []byte // all the rest
	count      int64
	first, max int64 // times
	lz4        lz4.Compressor
}

const (
	// batchHead is the length of a batch's header, and of the size before it.
	batchHead = 4 + 61
	// maxKeptBatch bounds the buffers that are kept for the next batch.
	maxKeptBatch = 4 << 20
)

// reset makes b empty.
func (b *recordBatch) reset(now time.Time) {
	if cap(b.plain) > maxKeptBatch || cap(b.out) > maxKeptBatch {
		b.plain, b.out = nil, nil
	}
	b.now, b.count, b.first, b.max = now.UnixMilli(), 0, 0, 0
	b.plain = b.plain[:0]
	b.out = append(b.out[:0], make([]byte, batchHead)...)
}

// add appends a record. Everything is copied.
func (b *recordBatch) add(o *pipeline.Output) {
	at := b.now
	if !o.Time.IsZero() {
		at = o.Time.UnixMilli()
	}
	if b.count == 0 {
		b.first, b.max = at, at
	}
	b.max = max(b.max, at)

	size := 1 + varintSize(at-b.first) + varintSize(b.count) + bytesSize(o.Key) + bytesSize(o.Value) + varintSize(int64(len(o.Headers)))
	for i := range o.Headers {
		h := &o.Headers[i]
		size += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	dst := b.out
	if b.codec.compression != 0 {
		dst = b.plain
	}
	dst = binary.AppendVarint(dst, int64(size))
	dst = append(dst, 0) // attributes: none are defined
	dst = binary.AppendVarint(dst, at-b.first)
	dst = binary.AppendVarint(dst, b.count)
	dst = appendBytes(dst, o.Key)
	dst = appendBytes(dst, o.Value)
	dst = binary.AppendVarint(dst, int64(len(o.Headers)))
	for i := range o.Headers {
		h := &o.Headers[i]
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	if b.codec.compression != 0 {
		b.plain = dst
	} else {
		b.out = dst
	}
	b.count++
}

// appendBytes appends a field that may be null.
func appendBytes(dst, field []byte) []byte {
	if field == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(field))), field...)
}

func bytesSize(field []byte) int {
	if field == nil {
		return 1
	}
	return varintSize(int64(len(field))) + len(field)
}

// varintSize is the length of what binary.AppendVarint appends.
func varintSize(x int64) int { return (bits.Len64(uint64(x<<1)^uint64(x>>63)|1) + 6) / 7 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// finish compresses the records, of which there is at least one, and fills in the
// header. What it returns is valid until b is used again.
func (b *recordBatch) finish() ([]byte, error) {
	if err := b.compress(); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b.out, uint32(len(b.out)-4))
	h := b.out[4:batchHead]
	binary.BigEndian.PutUint64(h, 0)                                // base offset: the broker's
	binary.BigEndian.PutUint32(h[8:], uint32(len(b.out)-4-12))      // length of what follows
	binary.BigEndian.PutUint32(h[12:], ^uint32(0))                  // partition leader epoch: the broker's
	h[16] = 2                                                       // format
	binary.BigEndian.PutUint16(h[21:], uint16(b.codec.compression)) // attributes: compression, and times of the producer
	binary.BigEndian.PutUint32(h[23:], uint32(b.count-1))           // last offset
	binary.BigEndian.PutUint64(h[27:], uint64(b.first))
	binary.BigEndian.PutUint64(h[35:], uint64(b.max))
	binary.BigEndian.PutUint64(h[43:], ^uint64(0)) // producer id: none
	binary.BigEndian.PutUint16(h[51:], ^uint16(0)) // producer epoch
	binary.BigEndian.PutUint32(h[53:], ^uint32(0)) // first sequence number
	binary.BigEndian.PutUint32(h[57:], uint32(b.count))
	binary.BigEndian.PutUint32(h[17:], crc32.Checksum(b.out[4+21:], castagnoli))
	return b.out, nil
}

func (b *recordBatch) compress() (err error) {
	switch b.codec.compression {
	case compress.None:
	case compress.Zstd:
		b.out = b.codec.zstd.EncodeAll(b.plain, b.out)
	case compress.Lz4:
		err = b.compressLZ4()
	default:
		w := bytes.NewBuffer(b.out)
		z := b.codec.compression.Codec().NewWriter(w)
		if _, err = z.Write(b.plain); err == nil {
			err = z.Close()
		}
		b.out = w.Bytes()
	}
	if err != nil {
		return fmt.Errorf("compress %d records: %w", b.count, err)
	}
	return nil
}

// The frame's head says: version 1, blocks that need no others, of at most 1 MiB, no
// checksums; its last byte is its own checksum.
// Source: LZ4 Frame Format Description 1.6.
var lz4Head = []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x60, 0x51}

const (
	lz4Block = 1 << 20
	lz4Plain = 1 << 31 // of a block's length: it is not compressed
)

func (b *recordBatch) compressLZ4() error {
	b.out = append(b.out, lz4Head...)
	for rest := b.plain; len(rest) > 0; {
		block := rest[:min(len(rest), lz4Block)]
		rest = rest[len(block):]
		start := len(b.out) + 4
		room := start + lz4.CompressBlockBound(len(block))
		b.out = slices.Grow(b.out, room-len(b.out))[:room]
		n, err := b.lz4.CompressBlock(block, b.out[start:])
		if err != nil {
			return err
		}
		mark := uint32(n)
		if n >= len(block) {
			n = copy(b.out[start:], block)
			mark = uint32(n) | lz4Plain
		}
		binary.LittleEndian.PutUint32(b.out[start-4:], mark)
		b.out = b.out[:start+n]
	}
	b.out = append(b.out, 0, 0, 0, 0) // the end
	return nil
}

// codec is what the batches of one producer have in common.
type codec struct {
	compression kafka.Compression
	zstd        *zstd.Encoder // safe for concurrent use by EncodeAll

	mu    sync.Mutex // guards spare
	spare []*recordBatch
}

// maxSpare bounds the batches kept for later: more are seldom encoded at once.
const maxSpare = 16

func newCodec(c kafka.Compression) (*codec, error) {
	k := &codec{compression: c}
	if c == compress.Zstd {
		var err error
		// A request is seldom larger than the window, and has its checksum already. The
		// fastest level takes a fifth less time or better, and about as many bytes: ADR 17.
		k.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			return nil, fmt.Errorf("prepare zstd: %w", err)
		}
	}
	return k, nil
}

// take returns an empty batch. Those that were given back are kept also over a garbage
// collection, which growing their buffers again would bring on.
func (k *codec) take() *recordBatch {
	var b *recordBatch
	k.mu.Lock()
	if last := len(k.spare) - 1; last >= 0 {
		b, k.spare[last] = k.spare[last], nil
		k.spare = k.spare[:last]
	}
	k.mu.Unlock()
	if b == nil {
		b = &recordBatch{codec: k}
	}
	b.reset(time.Now())
	return b
}

// giveBack takes a batch back that nobody reads any more.
func (k *codec) giveBack(b *recordBatch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.spare) < maxSpare {
		k.spare = append(k.spare, b)
	}
}
