"""Fine-tuning of a language model that drafts impressions, on a site's own reports."""
