package demo

import (
	"context"
	"errors"
	"fmt"
)

// withProxyTracking is act 3: every mode, and beside kernel tracking what that cannot follow.
func (s *story) withProxyTracking(ctx context.Context) error {
	s.scene("Every mode: a listing, a download and an upload each")
	errs := []error{s.everything(ctx, "proxy", "", s.cast.listen, pasv, epsv, port, eprt)}
	if ctx.Err() == nil {
		errs = append(errs, s.everything(ctx, "proxy", ", IPv6 client", s.cast.listen6, epsv, eprt))
	}
	if ctx.Err() == nil {
		errs = append(errs, s.sideBySide(ctx))
	}
	return errors.Join(errs...)
}

// everything is a session in each mode, told in one line. A client in the lab has a way to the gateway
// only: where data came, the client was told of the gateway.
func (s *story) everything(ctx context.Context, way, who, at string, modes ...mode) error {
	var errs []error
	for _, m := range modes {
		v := visit{way: way, how: string(m) + who, at: at, quiet: true}
		err := s.session(ctx, v, s.listing(m), s.downloading(m), s.uploading(m))
		if ctx.Err() != nil {
			return err
		}
		if err == nil {
			r := s.table[len(s.table)-1]
			fmt.Fprintf(s.out, "     %-18s the bytes are right; %.0f MiB/s\n", v.how, r.rate)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
