package scenario

import (
	"context"
	"errors"
	"fmt"

	"ftpgate/internal/ftpclient"
)

// runWithProxyTracking is act 3: every mode, and a comparison with kernel tracking on servers that the
// kernel cannot follow.
func (s *scenario) runWithProxyTracking(ctx context.Context) error {
	s.printHeading("Every mode: a listing, a download and an upload each")
	opts := sessionOptions{tracking: "proxy", address: s.setup.gateway}
	errs := []error{s.runModes(ctx, opts, ftpclient.PASV, ftpclient.EPSV, ftpclient.PORT, ftpclient.EPRT)}
	if ctx.Err() == nil {
		opts.mode, opts.address = ", IPv6 client", s.setup.gateway6
		errs = append(errs, s.runModes(ctx, opts, ftpclient.EPSV, ftpclient.EPRT))
	}
	if ctx.Err() == nil {
		errs = append(errs, s.compareTrackings(ctx))
	}
	return errors.Join(errs...)
}

// runModes runs a session in each mode, and prints one line for each. A client in the lab has a route to the
// gateway only: a transfer that succeeds shows that it received the gateway's address. opts.mode is appended
// to the name of the mode.
func (s *scenario) runModes(ctx context.Context, opts sessionOptions, modes ...ftpclient.Mode) error {
	suffix := opts.mode
	var errs []error
	for _, m := range modes {
		opts.mode, opts.quiet = string(m)+suffix, true
		err := s.runSession(ctx, opts, s.list(m), s.download(m), s.upload(m))
		if ctx.Err() != nil {
			return err
		}
		if err == nil {
			fmt.Fprintf(s.out, "     %-18s the bytes are right\n", opts.mode)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
