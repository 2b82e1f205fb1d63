package bans

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// maxState is the largest file of bans, in bytes: ban.MaxBans with the longest reasons, in JSON.
const maxState = 16 << 20

// state is the file of bans.
type state struct {
	Bans []ban.Ban `json:"bans"`
}

// parse reads the text of the file, and returns what is wrong with single bans, which are left out.
func parse(text []byte) (all []ban.Ban, leftOut []error, err error) {
	var file struct {
		Bans []json.RawMessage `json:"bans"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, nil, err
	}
	for _, text := range file.Bans {
		var b ban.Ban
		err := json.Unmarshal(text, &b)
		if err == nil { // an administrator may have edited the file
			b.Prefix, err = forward.ParseClient(b.Prefix.String())
		}
		if err != nil {
			leftOut = append(leftOut, err)
			continue
		}
		all = append(all, b)
	}
	return all, leftOut, nil
}

// Load bans the clients that the file has, except those whose time is over. Without a file there are none. A
// file that cannot be read is kept under another name, because the next ban writes a new one. Call it before
// Start.
func (k *Keeper) Load() {
	if k.config.File == "" {
		return
	}
	text, err := system.ReadFile(k.config.File, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var all []ban.Ban
	var leftOut []error
	if err == nil {
		all, leftOut, err = parse(text)
	}
	if err != nil {
		kept := k.config.File + ".broken"
		if os.Rename(k.config.File, kept) != nil {
			kept = k.config.File
		}
		k.config.Log.Error("cannot read the saved bans: no client is banned", "file", kept, "err", err)
		return
	}
	for _, err := range leftOut {
		k.config.Log.Warn("ban left out", "file", k.config.File, "err", err)
	}
	k.changing.Lock()
	defer k.changing.Unlock()
	err = k.changeLocked(func() error {
		for _, b := range all {
			if err := k.list.Add(b); err != nil {
				k.config.Log.Warn("ban left out", "file", k.config.File, "err", err)
			}
		}
		k.list.Expire(time.Now())
		return nil
	})
	if err != nil {
		k.config.Log.Error("cannot ban the clients in the file", "file", k.config.File, "err", err)
	}
}
