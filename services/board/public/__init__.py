"""Show what the truth marks public: pages, announcements and badges."""
