package bans

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/kernel/system"
)

// maxState is the largest file of bans, in bytes: ban.MaxBans with the longest reasons, in JSON.
const maxState = 16 << 20

// state is the file of bans.
type state struct {
	Bans []ban.Ban `json:"bans"`
}

// Load bans whom the file has, except those whose time is over. Without a file there are none. Call it before
// Start.
func (k *Keeper) Load() {
	if k.config.File == "" {
		return
	}
	text, err := system.ReadFile(k.config.File, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var s state
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		k.config.Log.Error("cannot read the bans of before: nobody is banned", "file", k.config.File, "err",
			err)
		return
	}
	k.changing.Lock()
	defer k.changing.Unlock()
	err = k.changeLocked(func() error {
		for _, b := range s.Bans {
			if err := k.list.Add(b); err != nil {
				k.config.Log.Warn("ban left out", "file", k.config.File, "err", err)
			}
		}
		k.list.Expire(time.Now())
		return nil
	})
	if err != nil {
		k.config.Log.Error("cannot ban whom the file has", "file", k.config.File, "err", err)
	}
}

// save writes the bans to the file. The caller holds changing. If that fails, they hold all the same: the log
// says once that they will end with the process.
func (k *Keeper) save() {
	if k.config.File == "" {
		return
	}
	err := write(k.config.File, state{k.list.Bans()})
	if err != nil && !k.unwritten {
		k.config.Log.Warn("cannot keep the bans: they will end when ftpgate ends", "file", k.config.File,
			"err", err)
	}
	k.unwritten = err != nil
}

// write replaces the file, so that whoever reads it finds the old one or the new one.
func write(file string, s state) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	next := file + ".new"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, file)
}
