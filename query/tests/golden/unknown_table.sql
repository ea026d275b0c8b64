-- as acme
SELECT * FROM sys.batches
