// SPDX-License-Identifier: Apache-2.0

// s3load: a lean closed-loop S3 load generator, standard library only.
// One goroutine and one keep-alive connection per worker, hand-written
// requests, SigV4 with a cached signing key. In "signed" payload mode the
// SHA-256 of an object is finished from a saved mid-state, so a signed body
// costs the client almost nothing and the server all of it.
// Prints one JSON line per run. Targets loopback only.
package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"hash"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	host, ak, sk, region, bucket string
	payloadMode                  string
	prefixBuf                    []byte // body without its 64-byte tail
	prefixState                  []byte // marshalled SHA-256 state after prefixBuf
	signKeyDay                   string
	signKey                      []byte
	signMu                       sync.RWMutex
)

const emptySHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
const tailLen = 64

func hm(k []byte, s string) []byte {
	h := hmac.New(sha256.New, k)
	h.Write([]byte(s))
	return h.Sum(nil)
}

func keyFor(day string) []byte {
	signMu.RLock()
	if signKeyDay == day {
		k := signKey
		signMu.RUnlock()
		return k
	}
	signMu.RUnlock()
	k := hm(hm(hm(hm([]byte("AWS4"+sk), day), region), "s3"), "aws4_request")
	signMu.Lock()
	signKeyDay, signKey = day, k
	signMu.Unlock()
	return k
}

func esc(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~' || c == '/' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func escq(s string) string { return strings.ReplaceAll(esc(s), "/", "%2F") }

// query: sorted key=value pairs, already escaped.
func header(method, path, query, sha string, clen int64, extra string) []byte {
	now := time.Now().UTC()
	amz := now.Format("20060102T150405Z")
	day := amz[:8]
	canon := method + "\n" + path + "\n" + query + "\nhost:" + host + "\nx-amz-content-sha256:" + sha + "\nx-amz-date:" + amz + "\n\nhost;x-amz-content-sha256;x-amz-date\n" + sha
	ch := sha256.Sum256([]byte(canon))
	scope := day + "/" + region + "/s3/aws4_request"
	sts := "AWS4-HMAC-SHA256\n" + amz + "\n" + scope + "\n" + hex.EncodeToString(ch[:])
	sig := hex.EncodeToString(hm(keyFor(day), sts))
	var b bytes.Buffer
	b.Grow(600)
	b.WriteString(method)
	b.WriteByte(' ')
	b.WriteString(path)
	if query != "" {
		b.WriteByte('?')
		b.WriteString(query)
	}
	b.WriteString(" HTTP/1.1\r\nHost: ")
	b.WriteString(host)
	b.WriteString("\r\nx-amz-date: " + amz + "\r\nx-amz-content-sha256: " + sha + "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + ak + "/" + scope + ",SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=" + sig + "\r\n")
	if method == "PUT" || method == "POST" {
		b.WriteString("Content-Length: " + strconv.FormatInt(clen, 10) + "\r\n")
		b.WriteString("Content-Type: application/octet-stream\r\n")
	}
	b.WriteString(extra)
	b.WriteString("\r\n")
	return b.Bytes()
}

type worker struct {
	id   int
	c    net.Conn
	br   *bufio.Reader
	buf  []byte
	lats []float64
	errs int
	byts int64
	rng  *rand.Rand
	tok  string
}

var firstErr atomic.Value

func (w *worker) connect() error {
	if w.c != nil {
		w.c.Close()
	}
	c, err := net.DialTimeout("tcp", host, 10*time.Second)
	if err != nil {
		return err
	}
	w.c = c
	w.br = bufio.NewReaderSize(c, 64<<10)
	return nil
}

type result struct {
	status int
	hdr    http.Header
	body   []byte
	n      int64
}

func (w *worker) do(method, path, query, sha string, body [][]byte, extra string, keep bool) (*result, error) {
	var clen int64
	for _, b := range body {
		clen += int64(len(b))
	}
	if w.c == nil {
		if err := w.connect(); err != nil {
			return nil, err
		}
	}
	w.c.SetDeadline(time.Now().Add(120 * time.Second))
	bufs := net.Buffers{header(method, path, query, sha, clen, extra)}
	for _, b := range body {
		bufs = append(bufs, b)
	}
	_, werr := bufs.WriteTo(w.c)
	req := &http.Request{Method: method}
	resp, err := http.ReadResponse(w.br, req)
	for err == nil && resp.StatusCode == 100 {
		resp, err = http.ReadResponse(w.br, req)
	}
	if err != nil {
		w.c.Close()
		w.c = nil
		if werr != nil {
			return nil, werr
		}
		return nil, err
	}
	r := &result{status: resp.StatusCode, hdr: resp.Header}
	if keep || resp.StatusCode >= 300 {
		r.body, err = io.ReadAll(resp.Body)
		r.n = int64(len(r.body))
	} else {
		for {
			n, e := resp.Body.Read(w.buf)
			r.n += int64(n)
			if e == io.EOF {
				break
			}
			if e != nil {
				err = e
				break
			}
		}
	}
	resp.Body.Close()
	if err != nil || werr != nil || resp.Close {
		w.c.Close()
		w.c = nil
	}
	if err == nil && r.status >= 300 {
		err = fmt.Errorf("%s %s?%s: status %d: %.300s", method, path, query, r.status, r.body)
	}
	return r, err
}

var seq atomic.Uint64
var runID = uint64(time.Now().UnixNano())

func makeBody(size int) ([][]byte, string) {
	sha := "UNSIGNED-PAYLOAD"
	if size <= tailLen {
		b := make([]byte, size)
		rand.Read(b)
		if payloadMode == "signed" {
			s := sha256.Sum256(b)
			sha = hex.EncodeToString(s[:])
		}
		return [][]byte{b}, sha
	}
	tail := make([]byte, tailLen)
	copy(tail, fmt.Sprintf("%020d-%020d", runID, seq.Add(1)))
	if payloadMode == "signed" {
		h := sha256.New()
		h.(encoding.BinaryUnmarshaler).UnmarshalBinary(prefixState)
		h.Write(tail)
		sha = hex.EncodeToString(h.Sum(nil))
	} else if payloadMode == "unique" { // differs in every 64 KiB: defeats deduplication
		sha = "UNSIGNED-PAYLOAD"
		p := make([]byte, len(prefixBuf))
		copy(p, prefixBuf)
		for o := 0; o+tailLen <= len(p); o += 65536 {
			copy(p[o:], tail)
		}
		return [][]byte{p, tail}, sha
	}
	return [][]byte{prefixBuf, tail}, sha
}

func setSize(size int) {
	if size <= tailLen {
		return
	}
	prefixBuf = make([]byte, size-tailLen)
	rand.New(rand.NewSource(42)).Read(prefixBuf)
	var h hash.Hash = sha256.New()
	h.Write(prefixBuf)
	prefixState, _ = h.(encoding.BinaryMarshaler).MarshalBinary()
}

func xmlField(b []byte, tag string) string {
	i := bytes.Index(b, []byte("<"+tag+">"))
	if i < 0 {
		return ""
	}
	b = b[i+len(tag)+2:]
	j := bytes.Index(b, []byte("</"+tag+">"))
	if j < 0 {
		return ""
	}
	s := string(b[:j])
	return strings.NewReplacer("&amp;", "&", "&quot;", "\"", "&#34;", "\"", "&lt;", "<", "&gt;", ">").Replace(s)
}

func main() {
	ep := flag.String("endpoint", "http://127.0.0.1:9000", "")
	flag.StringVar(&ak, "ak", "", "")
	flag.StringVar(&sk, "sk", "", "")
	flag.StringVar(&region, "region", "us-east-1", "")
	flag.StringVar(&bucket, "bucket", "bench", "")
	flag.StringVar(&payloadMode, "payload", "signed", "signed, unsigned or unique")
	op := flag.String("op", "put", "mb, fill, put, get, range, head, list, listdelim, delete, mpu")
	size := flag.Int("size", 4096, "")
	part := flag.Int("part", 8<<20, "")
	conc := flag.Int("conc", 1, "")
	dur := flag.Duration("dur", 2*time.Second, "")
	objects := flag.Int("objects", 100, "objects in the key set, or to fill or delete")
	dirs := flag.Int("dirs", 0, "spread fill keys over this many directories")
	prefix := flag.String("prefix", "o/", "")
	rangeLen := flag.Int("rangelen", 4096, "")
	maxOps := flag.Int64("maxops", 0, "")
	flag.Parse()
	u, err := url.Parse(*ep)
	if err != nil || u.Scheme != "http" {
		fmt.Fprintln(os.Stderr, "endpoint must be http://loopback:port")
		os.Exit(2)
	}
	host = u.Host
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		fmt.Fprintln(os.Stderr, "refusing: not a loopback address")
		os.Exit(2)
	}
	bsize := *size
	if *op == "mpu" {
		bsize = *part
	}
	setSize(bsize)
	bpath := "/" + bucket
	key := func(i int) string {
		if *dirs > 0 {
			return fmt.Sprintf("%sd%03d/k%06d", *prefix, i%*dirs, i)
		}
		return fmt.Sprintf("%sk%08d", *prefix, i)
	}
	var next atomic.Int64
	var one func(w *worker) (int64, bool, error)
	finite := false
	switch *op {
	case "mb":
		w := &worker{buf: make([]byte, 4096)}
		_, err := w.do("PUT", bpath, "", emptySHA, nil, "", true)
		if err != nil && !strings.Contains(err.Error(), "BucketAlreadyOwnedByYou") {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case "fill":
		finite = true
		one = func(w *worker) (int64, bool, error) {
			i := int(next.Add(1)) - 1
			if i >= *objects {
				return 0, false, nil
			}
			b, sha := makeBody(*size)
			_, err := w.do("PUT", bpath+"/"+esc(key(i)), "", sha, b, "", false)
			return int64(*size), true, err
		}
	case "delete":
		finite = true
		one = func(w *worker) (int64, bool, error) {
			i := int(next.Add(1)) - 1
			if i >= *objects {
				return 0, false, nil
			}
			_, err := w.do("DELETE", bpath+"/"+esc(key(i)), "", emptySHA, nil, "", false)
			return 0, true, err
		}
	case "put":
		one = func(w *worker) (int64, bool, error) {
			i := next.Add(1)
			b, sha := makeBody(*size)
			_, err := w.do("PUT", bpath+"/"+esc(fmt.Sprintf("%s%x/k%08d", *prefix, runID, i)), "", sha, b, "", false)
			return int64(*size), true, err
		}
	case "get", "range", "head":
		one = func(w *worker) (int64, bool, error) {
			k := esc(key(w.rng.Intn(*objects)))
			m, extra, want := "GET", "", int64(*size)
			if *op == "head" {
				m, want = "HEAD", 0
			}
			if *op == "range" {
				off := w.rng.Int63n(int64(*size - *rangeLen))
				extra = fmt.Sprintf("Range: bytes=%d-%d\r\n", off, off+int64(*rangeLen)-1)
				want = int64(*rangeLen)
			}
			r, err := w.do(m, bpath+"/"+k, "", emptySHA, nil, extra, false)
			if err == nil && r.n != want {
				err = fmt.Errorf("%s: read %d bytes, want %d", k, r.n, want)
			}
			return want, true, err
		}
	case "list", "listdelim":
		one = func(w *worker) (int64, bool, error) {
			q := ""
			if w.tok != "" {
				q = "continuation-token=" + escq(w.tok) + "&"
			}
			if *op == "listdelim" {
				q += "delimiter=%2F&"
			}
			q += "list-type=2&max-keys=1000&prefix=" + escq(*prefix)
			r, err := w.do("GET", bpath, q, emptySHA, nil, "", true)
			if err != nil {
				w.tok = ""
				return 0, true, err
			}
			w.tok = xmlField(r.body, "NextContinuationToken")
			if xmlField(r.body, "IsTruncated") != "true" {
				w.tok = ""
			}
			nk := bytes.Count(r.body, []byte("<Key>")) + bytes.Count(r.body, []byte("<CommonPrefixes>"))
			if nk == 0 {
				err = fmt.Errorf("empty listing: %.200s", r.body)
			}
			return int64(nk), true, err
		}
	case "mpu":
		one = func(w *worker) (int64, bool, error) {
			i := next.Add(1)
			p := bpath + "/" + esc(fmt.Sprintf("%s%x/m%06d", *prefix, runID, i))
			if *dirs < 0 { // fill mode for multi-part: fixed keys
				p = bpath + "/" + esc(key(int(i)-1))
			}
			r, err := w.do("POST", p, "uploads=", emptySHA, nil, "", true)
			if err != nil {
				return 0, true, err
			}
			id := xmlField(r.body, "UploadId")
			var x bytes.Buffer
			x.WriteString("<CompleteMultipartUpload>")
			n := (*size + *part - 1) / *part
			for j := 1; j <= n; j++ {
				b, sha := makeBody(*part)
				r, err = w.do("PUT", p, fmt.Sprintf("partNumber=%d&uploadId=%s", j, escq(id)), sha, b, "", false)
				if err != nil {
					return 0, true, err
				}
				fmt.Fprintf(&x, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", j, r.hdr.Get("ETag"))
			}
			x.WriteString("</CompleteMultipartUpload>")
			s := sha256.Sum256(x.Bytes())
			r, err = w.do("POST", p, "uploadId="+escq(id), hex.EncodeToString(s[:]), [][]byte{x.Bytes()}, "", true)
			if err == nil && bytes.Contains(r.body, []byte("<Error>")) {
				err = fmt.Errorf("complete: %.300s", r.body)
			}
			return int64(n * *part), true, err
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown op")
		os.Exit(2)
	}
	var wg sync.WaitGroup
	ws := make([]*worker, *conc)
	start := time.Now()
	stop := start.Add(*dur)
	var done atomic.Int64
	for i := range ws {
		w := &worker{id: i, buf: make([]byte, 256<<10), rng: rand.New(rand.NewSource(int64(i) + time.Now().UnixNano()))}
		ws[i] = w
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				if !finite && time.Now().After(stop) || finite && *dur > 0 && time.Now().After(stop) {
					break
				}
				if *maxOps > 0 && done.Add(1) > *maxOps {
					break
				}
				t := time.Now()
				n, ok, err := one(w)
				if !ok {
					break
				}
				if err != nil {
					w.errs++
					firstErr.CompareAndSwap(nil, err.Error())
					if w.errs > 1000 {
						break
					}
					continue
				}
				w.lats = append(w.lats, time.Since(t).Seconds()*1e3)
				w.byts += n
			}
			if w.c != nil {
				w.c.Close()
			}
		}()
	}
	wg.Wait()
	el := time.Since(start).Seconds()
	var all []float64
	errs, byts := 0, int64(0)
	for _, w := range ws {
		all = append(all, w.lats...)
		errs += w.errs
		byts += w.byts
	}
	sort.Float64s(all)
	pc := func(p float64) float64 {
		if len(all) == 0 {
			return 0
		}
		i := int(p * float64(len(all)))
		if i >= len(all) {
			i = len(all) - 1
		}
		return all[i]
	}
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	cpu := float64(ru.Utime.Sec+ru.Stime.Sec) + float64(ru.Utime.Usec+ru.Stime.Usec)/1e6
	fe, _ := firstErr.Load().(string)
	mib := float64(byts) / (1 << 20)
	if *op == "list" || *op == "listdelim" || *op == "head" || *op == "delete" {
		mib = 0
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"op": *op, "size": *size, "conc": *conc, "secs": el, "ops": len(all), "errs": errs,
		"ops_s": float64(len(all)) / el, "mib_s": mib / el, "mib": mib, "keys": map[bool]int64{true: byts, false: 0}[*op == "list" || *op == "listdelim"],
		"p50": pc(.5), "p90": pc(.9), "p99": pc(.99), "max": pc(1), "client_cpu_s": cpu, "first_err": fe, "payload": payloadMode,
	})
	if len(all) == 0 {
		os.Exit(1)
	}
}
