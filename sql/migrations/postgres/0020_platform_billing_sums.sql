-- The total of an invoice may be beyond 64 bits: what is below 10^18 stays in its column, the rest is beside it. Owner: platform-billing.
ALTER TABLE platform_billing_invoices ADD COLUMN total_high bigint NOT NULL DEFAULT 0;
