-- Documents may be billable states. Owner: platform-registry.

ALTER TABLE platform_registry_documents DROP CONSTRAINT platform_registry_documents_kind_check;
ALTER TABLE platform_registry_documents ADD CONSTRAINT platform_registry_documents_kind_check
    CHECK (kind IN ('billable_states', 'contract', 'meter', 'price_book', 'rounding', 'sku', 'unit'));
