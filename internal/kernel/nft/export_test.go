package nft

// BetweenSendAndVerify has f called after each table is sent, before it is verified.
func (c *Conn) BetweenSendAndVerify(f func()) { c.sent = f }
