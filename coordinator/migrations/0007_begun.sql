-- How many leases of each job there were: its first ones are served sooner.
ALTER TABLE turn ADD COLUMN leases BIGINT NOT NULL DEFAULT 0;
