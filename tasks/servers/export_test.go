package servers

import "time"

// Forget has the next Check ask the servers.
func (m *Meter) Forget() { m.asked = time.Now().Add(-every) }
