"""Model servers of other projects as engines: each started for one model, guarded, asked over a private address."""
