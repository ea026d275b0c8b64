// Checks the proofs of a bundle with Go's own golang.org/x/mod/sumdb/note and tlog, copied unchanged out of the Go toolchain:
// the signed notes, the inclusion of the organization's leaf and of the checkpoint's entry, the consistency of the organization's logs,
// and, given a kept checkpoint and the log's entries, that one checkpoint continues the other.
//
//	check BUNDLE VERIFIER-KEY [KEPT-CHECKPOINT [ENTRIES-FOLDER]]
//
// Prints one line for each thing that does not hold; exit status 1 when there is one.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var failed = false

func fail(what string, err error) {
	if err != nil {
		fmt.Printf("%s: %v\n", what, err)
		failed = true
	}
}

func read(path ...string) []byte {
	bytes, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return bytes
}

func hash(text string) (h tlog.Hash) {
	bytes, err := hex.DecodeString(text)
	if err != nil || len(bytes) != len(h) {
		fail("hash "+text, fmt.Errorf("not 64 hex digits"))
		return
	}
	copy(h[:], bytes)
	return
}

func hashes(texts []string) (path []tlog.Hash) {
	for _, text := range texts {
		path = append(path, hash(text))
	}
	return
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	fail("number", err)
	return n
}

// The head that a signed checkpoint states.
func open(what string, message []byte, key note.Verifier) (size int64, root tlog.Hash) {
	opened, err := note.Open(message, note.VerifierList(key))
	fail(what, err)
	text := string(message)
	if err == nil {
		text = opened.Text
	}
	lines := strings.Split(text, "\n")
	if len(lines) < 3 || lines[0] != key.Name() {
		fail(what, fmt.Errorf("no checkpoint of %s", key.Name()))
		os.Exit(1)
	}
	bytes, err := base64.StdEncoding.DecodeString(lines[2])
	fail(what, err)
	copy(root[:], bytes)
	return number(lines[1]), root
}

type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, index := range indexes {
		list = append(list, s[index])
	}
	return
}

// The root of the first `size` entries of a tiled log's folder of entries.
func rootOf(folder string, size int64) tlog.Hash {
	var nodes stored
	for n, first := int64(0), int64(0); first < size; n++ {
		path := filepath.Join(folder, fmt.Sprintf("%03d", n))
		if _, err := os.Stat(path); err != nil {
			widest := 0
			parts, _ := os.ReadDir(path + ".p")
			for _, part := range parts {
				if width, err := strconv.Atoi(part.Name()); err == nil && width > widest {
					widest = width
				}
			}
			path = filepath.Join(path+".p", strconv.Itoa(widest))
		}
		for rest := read(path); len(rest) > 0 && first < size; first++ {
			length := int(binary.BigEndian.Uint16(rest))
			made, err := tlog.StoredHashes(first, rest[2:2+length], nodes)
			fail("entries", err)
			nodes = append(nodes, made...)
			rest = rest[2+length:]
		}
	}
	root, err := tlog.TreeHash(size, nodes)
	fail("root of the entries", err)
	return root
}

func main() {
	folder, key := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(key)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	size, root := open("checkpoint", read(folder, "log/checkpoint"), verifier)
	_, err = note.Open(read(folder, "keys/bundle.note"), note.VerifierList(verifier))
	fail("bundle.note", err)

	var proof struct {
		Entry struct {
			Path []string
			Text string
		}
		Logs         []struct{ Month, Root, Size string; Path []string }
		Organization struct {
			Index, Leaf string
			Path        []string
		}
	}
	fail("proof", json.Unmarshal(read(folder, "log/proof.json"), &proof))
	var heads struct {
		Organizations string
		Root          string `json:"organizations_root"`
	}
	fail("entry", json.Unmarshal([]byte(proof.Entry.Text), &heads))
	var leaf struct{ Logs []struct{ Month, Root, Size string } }
	fail("leaf", json.Unmarshal([]byte(proof.Organization.Leaf), &leaf))

	fail("inclusion of the entry",
		tlog.CheckRecord(tlog.RecordProof(hashes(proof.Entry.Path)), size, root, size-1, tlog.RecordHash([]byte(proof.Entry.Text))))
	fail("inclusion of the organization", tlog.CheckRecord(tlog.RecordProof(hashes(proof.Organization.Path)), number(heads.Organizations), hash(heads.Root),
		number(proof.Organization.Index), tlog.RecordHash([]byte(proof.Organization.Leaf))))
	for _, log := range proof.Logs {
		found := false
		for _, later := range leaf.Logs {
			if later.Month == log.Month {
				found = true
				fail("consistency of log "+log.Month,
					tlog.CheckTree(tlog.TreeProof(hashes(log.Path)), number(later.Size), hash(later.Root), number(log.Size), hash(log.Root)))
			}
		}
		if !found {
			fail("log "+log.Month, fmt.Errorf("not in the organization's leaf"))
		}
	}

	if len(os.Args) > 3 {
		kept, keptRoot := open("kept checkpoint", read(os.Args[3]), verifier)
		switch {
		case size < kept:
			fail("checkpoint", fmt.Errorf("stale: %d entries, the kept one has %d", size, kept))
		case size == kept && root != keptRoot:
			fail("checkpoint", fmt.Errorf("forked: another root for %d entries", size))
		case size > kept && len(os.Args) > 4:
			if rootOf(os.Args[4], kept) != keptRoot {
				fail("kept checkpoint", fmt.Errorf("forked: the log's entries have another root"))
			}
			if rootOf(os.Args[4], size) != root {
				fail("checkpoint", fmt.Errorf("forked: the log's entries have another root"))
			}
		}
	}
	if failed {
		os.Exit(1)
	}
}
