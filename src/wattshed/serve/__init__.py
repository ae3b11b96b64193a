"""The gateway: live requests, sent where they cost least, each with a receipt of its energy."""
