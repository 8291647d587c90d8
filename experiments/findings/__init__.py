"""What came of the claims: `tokenkl findings`."""
